"""Fusion by places instead of scores: reciprocal rank fusion, Borda counts, and the Comb family over min-max scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Self

import numpy as np

from core.arrays import Floats
from core.artefacts import Artefact
from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.formula.program import minmax, rank
from fusion.fused import NO_CONTEXT, Fused


def rrf(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """sum_i w_i / (c + rank_i), `[n_items, n_tasks]` to `[n_items]` (Cormack, Clarke & Buettcher 2009).

    >>> rrf(np.array([[0.9, 0.1], [0.8, 0.3]]), np.array([1.0, 1.0]), c=1.0).round(4).tolist()
    [0.8333, 0.8333]
    """
    return (1.0 / (c + _ranks(scores))) @ weights


def borda(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """sum_i w_i (number of items ranked below, ties half)."""
    return (len(scores) - _ranks(scores)) @ weights


def comb_sum(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """sum_i w_i minmax(o_i): CombSUM (Fox & Shaw 1994)."""
    return _minmax(scores) @ weights


def comb_mnz(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """CombSUM times the number of tasks that give the item more than their lowest score: CombMNZ (Fox & Shaw 1994).

    >>> comb_mnz(np.array([[0.9, 0.1], [0.8, 0.3], [0.7, 0.2]]), np.array([1.0, 1.0])).round(3).tolist()
    [1.0, 3.0, 0.5]
    """
    table = _minmax(scores) * weights
    return np.asarray((table > 0).sum(axis=1) * table.sum(axis=1))


def comb_max(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """max_i w_i minmax(o_i): one strong prediction is enough."""
    return np.asarray((_minmax(scores) * weights).max(axis=1))


def comb_min(scores: Floats, weights: Floats, c: float = 60.0) -> Floats:
    """min_i w_i minmax(o_i): every prediction has to be good."""
    return np.asarray((_minmax(scores) * weights).min(axis=1))


METHODS: Final[Mapping[str, Callable[[Floats, Floats, float], Floats]]] = {
    "rrf": rrf,
    "borda": borda,
    "comb_sum": comb_sum,
    "comb_mnz": comb_mnz,
    "comb_max": comb_max,
    "comb_min": comb_min,
}


class RankFusion:
    """A fixed rank fusion over named tasks, with weights of at least 0; tasks in `down` are turned round first.

    >>> table = ScoreTable(("click", "hate"), np.array([[0.9, 0.5], [0.8, 0.1]]))
    >>> RankFusion("borda", {"click": 1.0, "hate": 2.0}, down=["hate"]).fuse(table).final.tolist()
    [1.0, 2.0]
    """

    kind: ClassVar[str] = "rank_fusion"

    def __init__(self, method: str, weights: Mapping[str, float], *, down: Any = (), c: float = 60.0) -> None:
        if method not in METHODS:
            raise ConfigError(f"rank fusion {method!r} is not one of {', '.join(METHODS)}")
        if not weights or not all(np.isfinite(w) and w >= 0 for w in weights.values()):
            raise ConfigError(f"rank fusion weights {dict(weights)} must name tasks, with values of at least 0")
        if not c > 0:
            raise ConfigError(f"rank fusion c {c} must be above 0")
        unknown = [task for task in down if task not in weights]
        if unknown:
            raise ConfigError(f"down task {unknown[0]!r} has no weight; weights are for {', '.join(weights)}")
        self.method, self.weights, self.down, self.c = method, {t: float(w) for t, w in weights.items()}, tuple(down), float(c)

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""
        return frozenset(self.weights)

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request."""
        columns = [-scores[task] if task in self.down else scores[task] for task in self.weights]
        table = np.stack(columns, axis=1).astype(np.float64)
        return Fused(METHODS[self.method](table, np.array(list(self.weights.values())), self.c), dict(self.weights))

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        return {
            "method": self.method,
            "weights": [list(pair) for pair in self.weights.items()],
            "down": list(self.down),
            "c": self.c,
        }, {}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        config = artefact.config
        return cls(config["method"], dict(config["weights"]), down=config["down"], c=config["c"])


def _ranks(scores: Floats) -> Floats:
    return np.stack([rank(column) for column in scores.T], axis=1)


def _minmax(scores: Floats) -> Floats:
    return np.stack([minmax(column) for column in scores.T], axis=1)
