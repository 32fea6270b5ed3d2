"""One (data, model, seed) training run, kept in a folder when finished, so that a killed comparison goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import ranker
from core.arrays import AnyArray, Floats
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.batches import Batch, MemoryBatches, dropping, pack
from ranker.encoder import Encoder
from ranker.metrics import evaluate, mean_auc
from ranker.recipes import Recipe
from ranker.train import Prepare, TrainConfig, fit


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


class Prepared:
    """A recipe whose rows are encoded once for all architectures and seeds, when the first is trained."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        some = recipe.train.take(np.arange(min(len(recipe.train), 10_000)))  # all of it is slow for lists
        self.data = [len(recipe.train), *(part.fingerprint() for part in (recipe.valid, recipe.test, some))]

    @property
    def key(self) -> str:
        """A short name for its rows and spec."""
        said = [self.data, self.recipe.spec.to_json()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def encoder(self) -> Encoder:
        """Fitted on the training rows."""
        return Encoder.fit(self.recipe.spec, self.recipe.train)

    @cached_property
    def rows(self) -> tuple[Batch, Batch, Batch]:
        """Rows to train on, to choose by, to judge on; binary tasks only, so that no label is scaled."""
        recipe = self.recipe
        return pack(self.encoder, recipe.train, {}), pack(self.encoder, recipe.valid, {}), pack(self.encoder, recipe.test, {})


def run(
    data: Prepared,
    tasks: Sequence[str],
    model: str,
    seed: int,
    setting: Setting,
    work: Path,
    *,
    prepare: Callable[[], Prepare] | None = None,
    progress: bool = True,
) -> Outcome:
    """Train, or read the finished run of the same data, settings and code from `work`.

    `prepare` makes what is done to the fresh network; the settings' options must say that it is, as DUPN's `variant` does.
    """
    kept = finished(data, tasks, model, seed, setting, work)
    if kept is not None:
        return kept
    recipe, path = data.recipe, _path(data, tasks, model, seed, setting, work)
    checkpoints = path.with_suffix(".checkpoints")
    start = time.perf_counter()
    learned, chosen_on, judged = data.rows
    trained = fit(
        MemoryBatches(learned, dropping(data.encoder.layout)),
        data.encoder,
        chosen_on,
        recipe.valid,
        model=model,
        scales={},
        config=setting.config,
        options=setting.options,
        seed=seed,
        checkpoints=checkpoints,
        fingerprint=data.key,
        prepare=None if prepare is None else prepare(),
        progress=progress,
    )
    predictor = trained.predictor
    compared = TaskSet([task for task in predictor.tasks if task.name in tasks])
    on_valid = evaluate(predictor.run(chosen_on)[1], recipe.valid, compared, group=None)
    predictions = predictor.run(judged)[1]
    arrays: dict[str, AnyArray] = {f"task_{name}": np.asarray(predictions[name], np.float64) for name in tasks}
    summary = np.array([mean_auc(on_valid), trained.best_epoch, time.perf_counter() - start])
    work.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, summary=summary, **arrays)
    partial.replace(path)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return _read(path, model, seed)


def finished(data: Prepared, tasks: Sequence[str], model: str, seed: int, setting: Setting, work: Path) -> Outcome | None:
    """The run of the same data, settings and code that `work` holds; None when there is none."""
    path = _path(data, tasks, model, seed, setting, work)
    return _read(path, model, seed) if path.is_file() else None


def judge(outcome: Outcome, test: LoggedDataset, tasks: TaskSet, group: str | None) -> dict[str, dict[str, float]]:
    """Metrics by task on the judged rows."""
    return evaluate(outcome.predictions, test, tasks, group=group)


def averaged(outcomes: Sequence[Outcome], task: str) -> Floats:
    """One model's predictions of a task on the judged rows, averaged over its seeds, `[n]`.

    >>> runs = [Outcome("ple", s, 0.7, {"click": np.array([p])}, 2.0, 1.0) for s, p in ((0, 0.25), (1, 0.75))]
    >>> averaged(runs, "click").tolist()
    [0.5]
    """
    found: Floats = np.mean([outcome.predictions[task] for outcome in outcomes], 0)
    return found


def _read(path: Path, model: str, seed: int) -> Outcome:
    with np.load(path, allow_pickle=False) as file:
        chosen_by, best_epoch, seconds = file["summary"].tolist()
        predictions = {name.removeprefix("task_"): file[name] for name in file.files if name.startswith("task_")}
    return Outcome(model, seed, chosen_by, predictions, best_epoch, seconds)


def _path(data: Prepared, tasks: Sequence[str], model: str, seed: int, setting: Setting, work: Path) -> Path:
    return work / f"{data.recipe.name}-{model}-{seed}-{_key(data, tasks, model, seed, setting)}.npz"


def _key(data: Prepared, tasks: Sequence[str], model: str, seed: int, setting: Setting) -> str:
    said = {
        "data": data.key,
        "tasks": list(tasks),
        "run": [model, seed, asdict(setting.config), dict(setting.options)],
        "code": code_digest(),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def code_digest(folder: Path | None = None) -> str:
    """A digest of the ranker's source, so that a changed ranker never answers with an old run.

    Recipes are left out: what they make, rows and settings, is in a run's key already.
    """
    root = folder or Path(ranker.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if root / "recipes" not in path.parents:
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
