"""Labels as tensors: which rows count for which task, and how a regression label is scaled and its prediction scaled back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Columns, Floats, Floats32
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec

SCALES = ("standard", "log1p")


@dataclass(frozen=True, slots=True)
class Scale:
    """How a regression task is learned: the label standardised, or log1p and standardised.

    `smear` is Duan's factor, mean(1 + y) / mean(exp(prediction)), which makes the back-transformed log prediction a mean again.
    """

    kind: str = "standard"
    mean: float = 0.0
    std: float = 1.0
    smear: float = 1.0

    def apply(self, label: Floats) -> Floats:
        """Label to target."""
        values = np.log1p(np.maximum(label, 0)) if self.kind == "log1p" else label
        return (values - self.mean) / self.std

    def invert(self, target: Floats) -> Floats:
        """Prediction to the label's own unit."""
        values = target * self.std + self.mean
        return self.smear * np.exp(values) - 1 if self.kind == "log1p" else values

    @classmethod
    def fit(cls, kind: str, label: Floats) -> Scale:
        """Statistics of the training labels."""
        if kind not in SCALES:
            raise ConfigError(f"regression scale {kind!r} is not one of {', '.join(SCALES)}")
        values = np.log1p(np.maximum(label, 0)) if kind == "log1p" else label
        mean, std = float(values.mean()), float(values.std()) or 1.0
        smear = float((1 + np.maximum(label, 0)).mean() / np.exp(mean)) if kind == "log1p" else 1.0
        return cls(kind, mean, std, smear if kind == "log1p" else 1.0)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"kind": self.kind, "mean": self.mean, "std": self.std, "smear": self.smear}


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels `[n, K]` (0 where unknown) and weights `[n, K]` (0 where the row does not belong to the task), in task order."""

    values: Floats32
    weights: Floats32

    @classmethod
    def make(cls, log: LoggedDataset, tasks: TaskSet, scales: Mapping[str, Scale], weight: str | None = None) -> Targets:
        """Labels of a log; NaN means not observed, and rows outside a task's sample space count nothing for it."""
        values = np.zeros((len(log), len(tasks)), np.float32)
        weights = np.zeros((len(log), len(tasks)), np.float32)
        row_weight = np.asarray(log[weight], float) if weight else np.ones(len(log))
        for at, task in enumerate(tasks):
            label, mask = observed(log.columns, task)
            target = scales[task.name].apply(label) if task.kind == "regression" else label
            values[:, at] = np.where(mask, target, 0)
            weights[:, at] = np.where(mask, row_weight, 0)
        return cls(values, weights)


def observed(columns: Columns, task: TaskSpec) -> tuple[Floats, Floats]:
    """A task's label and which rows count for it, `[n]` each.

    Raises:
        DataError: The column is missing or its values do not fit the task's kind.
    """
    for name in (task.name, task.sample_space):
        if name is not None and name not in columns:
            raise DataError(f"task {task.name!r} needs column {name!r}; columns are {', '.join(sorted(columns))}")
    try:
        label = np.asarray(columns[task.name], float)
    except (TypeError, ValueError) as error:
        raise DataError(f"task {task.name!r}: its column holds text; labels are numbers") from error
    mask = ~np.isnan(label)
    if task.sample_space:
        mask &= np.nan_to_num(np.asarray(columns[task.sample_space], float)) > 0
    seen = label[mask]
    if task.kind == "binary" and not np.isin(seen, (0.0, 1.0)).all():
        raise DataError(f"task {task.name!r} is binary but its label holds {seen[~np.isin(seen, (0.0, 1.0))][0]:g}; use 0 and 1")
    if task.kind == "multiclass" and not np.isin(seen, np.arange(task.n_classes or 0)).all():
        raise DataError(f"task {task.name!r}: classes must be 0..{(task.n_classes or 0) - 1}")
    if np.isinf(seen).any():
        raise DataError(f"task {task.name!r}: its label is infinite somewhere; labels must be finite")
    return label, mask.astype(float)


def require_both_classes(log: LoggedDataset, tasks: Iterable[TaskSpec], part: str) -> None:
    """Refuse a log in which some task cannot be learned or judged."""
    for task in tasks:
        label, mask = observed(log.columns, task)
        seen = label[mask > 0]
        if not len(seen):
            raise DataError(f"task {task.name!r} has no observed row in the {part} rows; drop the task or choose other days")
        if task.kind != "regression" and (seen == seen[0]).all():
            what = f"label {seen[0]:g} in all {len(seen)}"
            raise DataError(f"task {task.name!r} has one class only, {what} {part} rows; drop the task or choose other days")
