"""Intervals by resampling users: the same draws for every vector, so that differences are paired."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.arrays import Floats
from fusion.search.evaluator import Evaluator
from fusion.search.panel import Panel


class Interval(NamedTuple):
    """A 95 % percentile interval; NaN where it cannot be computed."""

    low: float
    high: float


def user_draws(n_users: int, n_draws: int, seed: int) -> Floats:
    """How often each user is drawn, `[n_draws, U]`: Poisson(1), the bootstrap of a large sample."""
    return np.random.default_rng(seed).poisson(1.0, (n_draws, n_users)).astype(np.float64)


def draw_values(evaluator: Evaluator, vectors: Floats, draws: Floats, chunk: int = 64) -> Floats:
    """The objective of every vector under every draw, `[n_draws, V]`; NaN when the objective holds a function."""
    panel = evaluator.panel
    out = np.full((len(draws), len(vectors)), np.nan)
    if len(panel.measured) < len(panel.objective.metrics):
        return out
    weights = panel.objective.weights
    with np.errstate(invalid="ignore", divide="ignore"):
        denominators = draws @ panel.eligible.T  # (R, M)
        for start in range(0, len(vectors), chunk):
            numerators = evaluator.per_user(vectors[start : start + chunk])  # (V, M, U)
            value = np.zeros((len(draws), len(numerators)))
            for m, weight in enumerate(weights):
                value += weight * (draws @ numerators[:, m].T) / denominators[:, m : m + 1]
            out[:, start : start + chunk] = value
    return out


def interval(samples: Floats, level: float = 0.95) -> Interval:
    """Percentiles of the samples; NaN when fewer than 20 of them are finite."""
    finite = samples[np.isfinite(samples)]
    if len(finite) < 20:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def panel_draws(panel: Panel, n_draws: int, seed: int) -> Floats:
    """Draws for a panel's users."""
    return user_draws(panel.n_users, n_draws, seed)
