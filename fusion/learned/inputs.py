"""What a learned fusion reads: task scores, the way each of them may move it, and request numbers that may gate it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError, DataError
from core.events import SCORE
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet

_EDGE = 1e-6  # probabilities are kept this far from 0 and 1 before a logit


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns in their order.

    Args:
        tasks: Score columns.
        signs: By task, 1 where a higher score may only raise the final score, -1 where it may only lower it.
        probability: By task, whether the score is a probability (else an expected value of at least 0).
        context: Numbers of the request, such as the hour; they bend what a score is worth and are themselves unconstrained.

    >>> Inputs.of(TaskSet.from_json([{"name": "click"}, {"name": "hate", "goal": "down"}])).signs
    (1, -1)
    """

    tasks: tuple[str, ...]
    signs: tuple[int, ...]
    probability: tuple[bool, ...]
    context: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = (*self.tasks, *self.context)
        if not self.tasks or len(set(names)) < len(names):
            raise ConfigError(f"a learned fusion needs distinct tasks and context names; got {', '.join(names) or 'none'}")
        if len(self.signs) != len(self.tasks) or len(self.probability) != len(self.tasks) or not set(self.signs) <= {-1, 1}:
            raise ConfigError(f"every task of {', '.join(self.tasks)} needs a sign of 1 or -1 and a kind")

    @classmethod
    def of(cls, tasks: TaskSet, context: Sequence[str] = ()) -> Inputs:
        """The scored tasks of a set, each with its declared goal."""
        specs = [tasks[name] for name in tasks.scored]
        signs = tuple(1 if spec.goal == "up" else -1 for spec in specs)
        return cls(tasks.scored, signs, tuple(spec.kind == "binary" for spec in specs), tuple(context))

    def table(self, scores: ScoreTable) -> Floats:
        """One request's scores `[n, T]`.

        Raises:
            ConfigError: A task is missing.
            DataError: A score is not finite: no learned fusion guesses what a missing score means.
        """
        if scores.tasks == self.tasks:
            values = np.asarray(scores.values, dtype=np.float64)
        else:
            values = np.stack([scores[task] for task in self.tasks], axis=1).astype(np.float64)
        if not np.isfinite(values).all():
            task = self.tasks[int(np.flatnonzero(~np.isfinite(values).all(axis=0))[0])]
            raise DataError(f"a score of {task!r} is not finite; learned fusions rank finite scores only, drop those items")
        return values

    def numbers(self, context: Mapping[str, Any]) -> Floats:
        """One request's context `[1, C]`.

        Raises:
            DataError: A name is missing or no finite number.
        """
        values = np.empty((1, len(self.context)))
        for i, name in enumerate(self.context):
            value = context.get(name)
            if not isinstance(value, int | float | np.number | np.bool_) or not np.isfinite(float(value)):
                raise DataError(f"context {name!r} is {value!r}; this fusion needs a finite number there")
            values[0, i] = float(value)
        return values

    def rows(self, log: LoggedDataset) -> tuple[Floats, Floats]:
        """A log's `score_<task>` columns `[n, T]` and context columns `[n, C]`, all finite."""
        log.require([*(SCORE + task for task in self.tasks), *self.context])
        parts = []
        for names in ([SCORE + task for task in self.tasks], list(self.context)):
            values = np.empty((len(log), len(names)))
            for i, name in enumerate(names):
                values[:, i] = np.asarray(log[name], dtype=np.float64)
                n_bad = int(np.sum(~np.isfinite(values[:, i])))
                if n_bad:
                    raise DataError(f"column {name!r} is not finite in {n_bad} of {len(log)} rows; drop or fill them first")
            parts.append(values)
        return parts[0], parts[1]

    def unbounded(self, x: Floats) -> Floats:
        """Scores `[n, T]` turned so that all should rise: logits of probabilities, log1p of others, `down` negated."""
        out = np.empty_like(x)
        for i, (sign, probability) in enumerate(zip(self.signs, self.probability, strict=True)):
            if probability:
                p = np.clip(x[:, i], _EDGE, 1 - _EDGE)
                out[:, i] = sign * np.log(p / (1 - p))
            else:
                out[:, i] = sign * np.log1p(np.maximum(x[:, i], 0.0))
        return out

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "tasks": list(self.tasks),
            "signs": list(self.signs),
            "probability": list(self.probability),
            "context": list(self.context),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Inputs:
        """The inverse of `to_json`."""
        return cls(tuple(value["tasks"]), tuple(value["signs"]), tuple(value["probability"]), tuple(value["context"]))
