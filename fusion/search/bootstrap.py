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


def draw_terms(evaluator: Evaluator, vectors: Floats, draws: Floats, chunk: int = 64) -> Floats:
    """Every metric of every vector under every draw, `[n_draws, V, M]`; NaN for a metric that is a function."""
    panel = evaluator.panel
    out = np.full((len(draws), len(vectors), len(panel.objective.metrics)), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        denominators = draws @ panel.eligible.T  # (R, M measured)
        for start in range(0, len(vectors) if panel.measured else 0, chunk):
            numerators = evaluator.per_user(vectors[start : start + chunk])  # (V, M measured, U)
            for m, column in enumerate(panel.measured):
                out[:, start : start + chunk, column] = (draws @ numerators[:, m].T) / denominators[:, m : m + 1]
    return out


def draw_values(evaluator: Evaluator, vectors: Floats, draws: Floats, chunk: int = 64) -> Floats:
    """The objective of every vector under every draw, `[n_draws, V]`; NaN when the objective holds a function."""
    return evaluator.panel.objective.value(draw_terms(evaluator, vectors, draws, chunk))


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
