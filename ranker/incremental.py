"""Day after day: go on from yesterday's artefact with today's rows, new ids included, and notice when serving drifts away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.arrays import Columns
from core.artefacts import Artefact
from core.errors import ConfigError
from core.logs import LoggedDataset
from ranker.batches import pack_inputs
from ranker.carry import grown
from ranker.config import TrainConfig
from ranker.predictor import CHUNK, Predictor
from ranker.train import Trained, train


def load_trained(artefact: Artefact) -> Trained:
    """A published ranker as something to go on from; its history stays with the artefact."""
    predictor = Predictor.load(artefact)
    config = TrainConfig.from_json({k: tuple(v) if isinstance(v, list) else v for k, v in artefact.config["train"].items()})
    return Trained(
        predictor.model_name,
        predictor.options,
        predictor.encoder,
        predictor.model,
        predictor.scales,
        config,
        int(artefact.manifest["seed"] or 0),
        [],
        0.0,
        {},
        str(artefact.manifest["data_fingerprint"] or ""),
    )


def update(
    start: Trained | Artefact,
    *,
    train_rows: LoggedDataset,
    valid_rows: LoggedDataset,
    config: TrainConfig | None = None,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    progress: bool = True,
) -> Trained:
    """Warm start: yesterday's weights, rows for the ids that are new today, and a few epochs on today's rows.

    Args:
        start: Yesterday's ranker.
        config: Settings; yesterday's by default.
    """
    before = start if isinstance(start, Trained) else load_trained(start)
    return train(
        before.encoder.spec,
        before.model_name,
        train=train_rows,
        valid=valid_rows,
        config=config or before.config,
        options=before.options,
        seed=seed,
        checkpoints=checkpoints,
        start=grown(before, train_rows, seed=seed),
        progress=progress,
    )


def recalibrate(trained: Trained, log: LoggedDataset) -> int:
    """BatchNorm statistics anew from unsampled rows, after training on sampled ones; returns how many layers have any.

    Each layer's mean and variance become the plain average over all rows (momentum off), the weights stay.
    """
    norms = [module for module in trained.model.modules() if isinstance(module, nn.BatchNorm1d)]
    if not norms:
        return 0
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    was = trained.model.training
    trained.model.eval()  # no dropout
    for norm in norms:
        norm.train()
    rows = pack_inputs(trained.encoder, log)
    with torch.no_grad():
        for at in range(0, len(rows), CHUNK):
            trained.model.run(rows.slice(at, at + CHUNK))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    trained.model.train(was)
    return len(norms)


def drifted(predictor: Predictor, columns: Columns, *, limit: float = 0.25, min_rows: int = 100) -> Mapping[str, float]:
    """Dense features whose serving mean left the training mean by more than `limit` training deviations, with by how much.

    The usual reason is a feature that is computed differently online; the second is sampling in training. A caller warns with it.

    Args:
        columns: Columns as they were served, `[n]`; those that are absent are not judged.
    """
    if limit <= 0:
        raise ConfigError(f"limit {limit} must be above 0")
    found: dict[str, float] = {}
    for feature in predictor.spec.features:
        numbers: Any = predictor.encoder.numbers.get(feature.name)
        if numbers is None or feature.column not in columns or feature.kind != "dense":
            continue
        shift = numbers.shift(feature, np.asarray(columns[feature.column], float), min_rows)
        if abs(shift) > limit:
            found[feature.name] = float(shift)
    return found
