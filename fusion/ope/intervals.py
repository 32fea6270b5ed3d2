"""Intervals by redrawing users: the unit of independence, whatever an estimate is made of."""

from __future__ import annotations

import numpy as np

from core.arrays import AnyArray, Floats
from core.errors import ConfigError
from fusion.ope.bandit import Moments


def redraw(moments: Moments, user: AnyArray, *, n_redraws: int = 500, seed: int = 0) -> Floats:
    """The estimate on each Poisson redraw of users, `[n_redraws]`.

    Args:
        user: The user of each of the moments' rows, `[n]`.

    >>> sure = Moments(np.full((4, 1), 2.0), lambda m: m[..., 0], np.ones(4))
    >>> redraw(sure, np.arange(4), n_redraws=3).tolist()
    [2.0, 2.0, 2.0]
    """
    users, index = np.unique(user, return_inverse=True)
    if len(index) != len(moments.terms):
        raise ConfigError(f"{len(index)} users for {len(moments.terms)} rows; give one a row")
    sums = np.stack([np.bincount(index, term, len(users)) for term in moments.terms.T], 1)  # (U, m)
    sizes = np.bincount(index, minlength=len(users)).astype(float)
    rng = np.random.default_rng(seed)
    drawn = np.empty(n_redraws)
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, n_redraws, 50):
            times = rng.poisson(1.0, (min(50, n_redraws - start), len(users))).astype(float)
            means = (times @ sums) / (times @ sizes)[:, None]
            drawn[start : start + len(times)] = moments.combine(means)
    return drawn


def percentiles(drawn: Floats, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of redrawn estimates; NaN when fewer than 20 of them are numbers.

    >>> percentiles(np.arange(101.0), 0.5)
    (25.0, 75.0)
    """
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < 20:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def effective_size(weight: Floats) -> float:
    """Kish's effective sample size, `(sum w)^2 / sum w^2`; 0 when every weight is 0.

    >>> effective_size(np.array([1.0, 1.0, 0.0])), effective_size(np.zeros(3))
    (2.0, 0.0)
    """
    square = float((weight**2).sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def largest_share(weight: Floats) -> float:
    """The largest weight as a share of all; NaN when they sum to nothing.

    >>> largest_share(np.array([1.0, 3.0]))
    0.75
    """
    total = float(np.abs(weight).sum())
    return float(np.abs(weight).max()) / total if total > 0 else float("nan")
