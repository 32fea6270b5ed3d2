"""Everything the report shows, as plain JSON values: numbers here, pictures in `page`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from core.arrays import AnyArray
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.balance.gradients import cosines, shared_parameters, task_gradients
from ranker.batches import Batch, pack
from ranker.losses import TaskLosses
from ranker.models.base import MultiTaskModel
from ranker.report.inside import attention_of_one, attention_tables, selection, utilisation
from ranker.targets import observed
from ranker.train import Trained, labelled

N_BINS = 15


def facts(trained: Trained, log: LoggedDataset, *, max_rows: int = 20_000, seed: int = 0) -> dict[str, Any]:
    """The report of a trained ranker on rows it was not trained on.

    Args:
        log: Validation rows, with labels.
        max_rows: Gates and gradients are read on at most so many rows, chosen by `seed`.
    """
    if len(log) > max_rows:
        log = log.take(np.sort(np.random.default_rng(seed).permutation(len(log))[:max_rows]))
    log = labelled(log, trained.encoder.spec.tasks, trained.config)
    rows = pack(trained.encoder, log.require(trained.encoder.spec.columns()), trained.scales)
    predictions = trained.predictor.predict(log)
    value = {
        "model": trained.model_name,
        "options": dict(trained.options),
        "tasks": [task.name for task in trained.encoder.spec.tasks],
        "item_tasks": [task.name for task in trained.model.item_tasks],
        "n_rows": len(log),
        "seed": trained.seed,
        "best_epoch": trained.best_epoch,
        "members": trained.model.n_members,
        "parameters": parameters(trained.model),
        "metrics": trained.metrics,
        "curves": curves(trained),
        "calibration": calibration_curves(trained.encoder.spec.tasks, log, predictions),
        "utilisation": utilisation(trained, rows),
        "selection": selection(trained, rows),
        "attention": attention_tables(trained, rows),
        "attention_of_one": attention_of_one(trained, log),
        "gradient_cosines": gradient_cosines(trained, rows),
    }
    return plain(value)  # type: ignore[no-any-return]  # a mapping stays one


def parameters(model: MultiTaskModel) -> dict[str, int]:
    """Numbers in the embedding tables and in the dense layers."""
    tables = sum(p.numel() for p in model.inputs.parameters())
    return {"tables": tables, "dense": sum(p.numel() for p in model.parameters()) - tables}


def curves(trained: Trained) -> dict[str, Any]:
    """Training loss, validation loss and balance weights by task over epochs, and the monitored score."""
    history = trained.history
    tasks = trained.encoder.spec.tasks.names
    whole = [row for row in history if row.get("loss")]
    return {
        "epoch": [row["epoch"] for row in history],
        "score": [row["score"] for row in history],
        "valid_loss": {name: [row["valid_loss"][name] for row in history] for name in tasks},
        "train_epoch": [row["epoch"] for row in whole],
        "train_loss": {name: [row["loss"][name] for row in whole] for name in tasks},
        "weights": {name: [row.get("weights", {}).get(name) for row in whole] for name in tasks},
    }


def calibration_curves(
    tasks: TaskSet, log: LoggedDataset, predictions: Mapping[str, AnyArray]
) -> dict[str, dict[str, list[float]]]:
    """`calibration` of every binary task, over the rows that count for it."""
    found = {}
    for task in tasks:
        if task.kind == "binary":
            label, mask = observed(log.columns, task)
            found[task.name] = calibration(label, mask > 0, predictions[task.name])
    return found


def calibration(label: AnyArray, rows: AnyArray, probability: AnyArray, n_bins: int = N_BINS) -> dict[str, list[float]]:
    """Mean prediction, rate of positives and rows of bins of equal counts, with a 95 % interval of the rate (Wilson).

    >>> calibration(np.array([0.0, 1.0]), np.array([True, True]), np.array([0.2, 0.6]), n_bins=1)["rate"]
    [0.5]
    """
    label, probability = label[rows], np.asarray(probability)[rows]
    found: dict[str, list[float]] = {"predicted": [], "rate": [], "n": [], "rate_low": [], "rate_high": []}
    order = np.argsort(probability, kind="stable")
    for part in np.array_split(order, min(n_bins, max(len(order), 1))):
        if not len(part):
            continue
        n, rate, z = len(part), float(label[part].mean()), 1.96
        middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        for name, value in (
            ("predicted", float(probability[part].mean())),
            ("rate", rate),
            ("n", float(n)),
            ("rate_low", middle - half),
            ("rate_high", middle + half),
        ):
            found[name].append(value)
    return found


def gradient_cosines(trained: Trained, rows: Batch, *, batch_size: int = 1024, batches: int = 8) -> dict[str, Any] | None:
    """Mean cosine of every two tasks' gradients on the shared layers over batches; None where nothing is shared."""
    model = trained.model
    if not model.shared_layers():
        return None
    losses = TaskLosses(trained.encoder.spec.tasks, trained.config.regression)
    shared = shared_parameters(model)
    was_training = model.training
    model.train()  # an LSTM in evaluation mode keeps nothing for a backward pass
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trained.seed)
        for start in range(0, min(len(rows), batch_size * batches), batch_size):
            batch = rows.slice(start, start + batch_size)
            outputs = model.run(batch)
            found.append(cosines(task_gradients(losses(outputs, batch.values, batch.weights), shared)))
    model.train(was_training)
    stack = torch.stack(found).numpy()
    counted = np.maximum((~np.isnan(stack)).sum(0), 1)
    mean = np.where(np.isnan(stack).all(0), np.nan, np.nansum(stack, 0) / counted)
    return {"tasks": list(trained.encoder.spec.tasks.names), "mean": mean.tolist(), "n_batches": len(found)}


def plain(value: Any) -> Any:
    """As JSON takes it: NaN and infinities become null, arrays lists, numpy numbers Python's."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
