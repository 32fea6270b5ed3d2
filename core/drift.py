"""How far scores have drifted from a reference: the population stability index over the reference's own bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.arrays import AnyArray, Floats, Ints
from core.errors import ConfigError, DataError

N_BINS: Final = 10
LOOK, ACT = 0.1, 0.25  # the index's usual readings: below .1 nothing happened, above .25 the scores are others


@dataclass(frozen=True)
class Reference:
    """Each task's distribution of scores: inner bin edges `[B - 1]`, the reference's shares `[B]`, and how many scores it is of.

    >>> reference = Reference.of({"click": np.arange(1000.0)})
    >>> round(reference.psi({"click": np.arange(1000.0)})["click"], 6), reference.psi({"click": np.arange(500.0)})["click"] > ACT
    (0.0, True)
    """

    edges: Mapping[str, Floats]
    shares: Mapping[str, Floats]
    n: int

    @classmethod
    def of(cls, scores: Mapping[str, AnyArray]) -> Reference:
        """Bins of about equal counts; fewer where scores are tied.

        Raises:
            DataError: A task has no finite scores.
        """
        edges, shares, n = {}, {}, 0
        for task, values in scores.items():
            finite = np.asarray(values, dtype=np.float64)
            finite = finite[np.isfinite(finite)]
            if not len(finite):
                raise DataError(f"scores of {task!r} hold no finite number; a reference needs some")
            edges[task] = np.unique(np.quantile(finite, np.linspace(0, 1, N_BINS + 1)[1:-1], method="lower"))
            shares[task] = _counts(edges[task], finite) / len(finite)
            n = max(n, len(finite))
        return cls(edges, shares, n)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it knows."""
        return tuple(self.edges)

    def counts(self, task: str, values: AnyArray) -> Ints:
        """How many values fall into each bin `[B]`; a value on an edge belongs below it, NaN to none."""
        values = np.asarray(values, dtype=np.float64)
        return _counts(self.edges[task], values[~np.isnan(values)])

    def psi_of_counts(self, task: str, counts: Ints) -> float:
        """sum_b (p_b - q_b) log(p_b / q_b) of shares p against q, an empty bin taken as half a score; NaN without one.

        The index of N fresh scores of the same distribution is about (B - 1) (1 / n + 1 / N) on average.
        """
        total = int(counts.sum())
        if total == 0:
            return float("nan")
        p = np.maximum(counts, 0.5) / total
        q = np.maximum(self.shares[task], 0.5 / max(self.n, 1))
        p, q = p / p.sum(), q / q.sum()
        return float(np.sum((p - q) * np.log(p / q)))

    def psi(self, scores: Mapping[str, AnyArray]) -> dict[str, float]:
        """The index of each of the reference's tasks that has scores here."""
        return {task: self.psi_of_counts(task, self.counts(task, scores[task])) for task in self.tasks if task in scores}

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        tasks = {task: {"edges": self.edges[task].tolist(), "shares": self.shares[task].tolist()} for task in self.tasks}
        return {"n": self.n, "tasks": tasks}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reference:
        """The inverse of `to_json`."""
        try:
            edges = {task: np.array(v["edges"], dtype=np.float64) for task, v in value["tasks"].items()}
            shares = {task: np.array(v["shares"], dtype=np.float64) for task, v in value["tasks"].items()}
            n = int(value["n"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"a score reference needs n and tasks with edges and shares; got {str(value)[:100]}") from error
        for task in edges:
            if len(shares[task]) != len(edges[task]) + 1 or (np.diff(edges[task]) <= 0).any():
                raise ConfigError(f"score reference of {task!r}: {len(edges[task])} ascending edges need one share more")
        return cls(edges, shares, n)


def _counts(edges: Floats, values: Floats) -> Ints:
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.int64)
