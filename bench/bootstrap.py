"""The paired user bootstrap: users are redrawn, all their rows with them, and every model is judged on the same redraws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Bools, Floats
from fusion.jit import compiled


@dataclass(frozen=True)
class Resampled:
    """A statistic on the data and on each redraw. Sums, differences and means of paired ones stay paired."""

    value: float
    draws: Floats

    def __sub__(self, other: Resampled) -> Resampled:
        return Resampled(self.value - other.value, self.draws - other.draws)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval; NaN when a redraw has none (a task without positives there is left out)."""
        drawn = self.draws[~np.isnan(self.draws)]
        if not len(drawn):
            return float("nan"), float("nan")
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def mean_of(parts: Sequence[Resampled]) -> Resampled:
    """The mean over tasks or seeds, redraw by redraw.

    >>> mean_of([Resampled(1.0, np.array([0.0, 2.0])), Resampled(2.0, np.array([1.0, 3.0]))])
    Resampled(value=1.5, draws=array([0.5, 2.5]))
    """
    return Resampled(float(np.mean([p.value for p in parts])), np.mean([p.draws for p in parts], axis=0))


class UserBootstrap:
    """Redraws of users with replacement (the cluster bootstrap; rows of one user are not independent).

    Args:
        user: The user of each row `[n]`.
        n_draws: Redraws.
        seed: Decides them all.
    """

    def __init__(self, user: AnyArray, *, n_draws: int = 1000, seed: int = 0) -> None:
        users, self._user = np.unique(user, return_inverse=True)
        rng, n = np.random.default_rng(seed), len(users)
        drawn = (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(n_draws))
        self._times = np.stack([np.ones(n, np.int64), *drawn]).astype(np.uint16)  # (draws + 1, users); first: the data itself

    def auc(self, label: AnyArray, score: AnyArray) -> Resampled:
        """AUC on every redraw (ties count one half); NaN where a redraw has one class only.

        >>> boot = UserBootstrap(np.array([1, 1, 2, 2]), n_draws=50)
        >>> boot.auc(np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.8, 0.2])).interval()
        (1.0, 1.0)
        """
        order = np.argsort(score, kind="stable")
        value = np.asarray(score)[order]
        starts = np.r_[True, value[1:] != value[:-1]]
        found = _aucs(self._times, self._user[order], np.asarray(label)[order] > 0, starts)
        return Resampled(float(found[0]), found[1:])


@compiled
def _aucs(times: AnyArray, user: AnyArray, positive: Bools, starts: Bools) -> Floats:
    """AUC on each redraw, rows sorted by score; `starts` says where a new score begins."""
    found = np.empty(len(times))
    for draw in range(len(times)):
        pos = neg = won = tied_pos = tied_neg = 0.0
        for row in range(len(user)):
            if starts[row]:
                won += tied_pos * (neg + tied_neg / 2)
                pos, neg = pos + tied_pos, neg + tied_neg
                tied_pos = tied_neg = 0.0
            weight = times[draw, user[row]]
            if positive[row]:
                tied_pos += weight
            else:
                tied_neg += weight
        won += tied_pos * (neg + tied_neg / 2)
        pairs = (pos + tied_pos) * (neg + tied_neg)
        found[draw] = won / pairs if pairs else np.nan
    return found
