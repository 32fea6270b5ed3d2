"""How a learned fusion answers to one task: its final scores while one score moves and everything else stays."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from core.arrays import Floats
from core.logs import LoggedDataset
from fusion.learned.base import LearnedStrategy

N_ROWS: Final = 400  # impressions whose score is moved
N_STEPS: Final = 25  # places it is moved to: quantiles of the task's own scores


def responses(strategy: LearnedStrategy, log: LoggedDataset, seed: int = 0) -> dict[str, dict[str, Any]]:
    """By task: `score` (the places), `mean`, `low`, `high` (10 to 90 % of the impressions) of the final score less its value at
    the first place, in standard deviations of the final scores, and `wrong_steps`, how many steps went against the goal.

    Scores are raw; a calibration of the strategy is part of what is shown.
    """
    rows = np.random.default_rng(seed).permutation(len(log))[:N_ROWS]
    sample = log.take(np.sort(rows))
    spread = float(strategy.on_log(sample).std()) or 1.0
    found = {}
    for task, sign in zip(strategy.inputs.tasks, strategy.inputs.signs, strict=True):
        name = f"score_{task}"
        places = np.unique(np.quantile(np.asarray(log[name], float), np.linspace(0, 1, N_STEPS)))
        finals: Floats = np.stack([strategy.on_log(sample.with_columns({name: np.full(len(sample), p)})) for p in places])
        moved = (finals - finals[0]) / spread  # (places, rows)
        slack = 1e-9 * np.maximum(1.0, np.abs(finals[:-1]))
        low, high = np.quantile(moved, [0.1, 0.9], axis=1)
        found[task] = {
            "score": places.tolist(),
            "mean": moved.mean(axis=1).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "n_steps": int(np.diff(finals, axis=0).size),
            "wrong_steps": int(np.sum(sign * np.diff(finals, axis=0) < -slack)),
        }
    return found
