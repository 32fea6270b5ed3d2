"""One (data, model, seed) training run, kept in a folder when finished, so that a killed comparison goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ranker
from core.arrays import AnyArray, Floats
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.metrics import evaluate, mean_auc
from ranker.recipes import Recipe
from ranker.train import TrainConfig, train


@dataclass(frozen=True)
class Setting:
    """How one architecture is trained on one data set; chosen on validation rows, the same for all its seeds."""

    config: TrainConfig
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Args:
        chosen_by: Mean AUC of the compared tasks on the validation rows: the only number a choice may use.
        predictions: By task, on the judged rows `[n]`.
        best_epoch, seconds: When it was best, and how long all of it took.
    """

    model: str
    seed: int
    chosen_by: float
    predictions: Mapping[str, Floats]
    best_epoch: float
    seconds: float


def run(
    recipe: Recipe, tasks: Sequence[str], model: str, seed: int, setting: Setting, work: Path, *, progress: bool = True
) -> Outcome:
    """Train, or read the finished run of the same data, settings and code from `work`."""
    path = work / f"{recipe.name}-{model}-{seed}-{_key(recipe, tasks, model, seed, setting)}.npz"
    if path.is_file():
        return _read(path, model, seed)
    checkpoints = path.with_suffix(".checkpoints")
    start = time.perf_counter()
    trained = train(
        recipe.spec,
        model,
        train=recipe.train,
        valid=recipe.valid,
        config=setting.config,
        options=setting.options,
        seed=seed,
        checkpoints=checkpoints,
        progress=progress,
    )
    predictor = trained.predictor
    compared = TaskSet([task for task in predictor.tasks if task.name in tasks])
    on_valid = evaluate(predictor.predict(recipe.valid), recipe.valid, compared, group=None)
    predictions = predictor.predict(recipe.test)
    arrays: dict[str, AnyArray] = {f"task_{name}": np.asarray(predictions[name], np.float64) for name in tasks}
    summary = np.array([mean_auc(on_valid), trained.best_epoch, time.perf_counter() - start])
    work.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, summary=summary, **arrays)
    partial.replace(path)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return _read(path, model, seed)


def judge(outcome: Outcome, test: LoggedDataset, tasks: TaskSet, group: str | None) -> dict[str, dict[str, float]]:
    """Metrics by task on the judged rows."""
    return evaluate(outcome.predictions, test, tasks, group=group)


def _read(path: Path, model: str, seed: int) -> Outcome:
    with np.load(path, allow_pickle=False) as file:
        chosen_by, best_epoch, seconds = file["summary"].tolist()
        predictions = {name.removeprefix("task_"): file[name] for name in file.files if name.startswith("task_")}
    return Outcome(model, seed, chosen_by, predictions, best_epoch, seconds)


def _key(recipe: Recipe, tasks: Sequence[str], model: str, seed: int, setting: Setting) -> str:
    data = [part.fingerprint() for part in (recipe.valid, recipe.test)]
    data.append(recipe.train.take(np.arange(min(len(recipe.train), 10_000))).fingerprint())  # all of it is slow for lists
    said = {
        "data": [len(recipe.train), *data],
        "spec": recipe.spec.to_json(),
        "tasks": list(tasks),
        "run": [model, seed, asdict(setting.config), dict(setting.options)],
        "code": code_digest(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(folder: Path | None = None) -> str:
    """A digest of the ranker's source, so that a changed ranker never answers with an old run."""
    digest = hashlib.sha256()
    for path in sorted((folder or Path(ranker.__file__).parent).rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
