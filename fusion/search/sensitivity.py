"""How flat the chosen point is: the objective along every parameter, and what a small step in all of them costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Floats
from fusion.search.evaluator import Evaluator
from fusion.search.space import Space


@dataclass(frozen=True)
class Curve:
    """One parameter moved over its range while the others stay where they were chosen.

    Args:
        at, value: `[k]` the (normalised) parameter and the objective on the search days.
        flat_low, flat_high: The stretch around the choice that loses at most `tolerance`.
    """

    at: Floats
    value: Floats
    flat_low: float
    flat_high: float


@dataclass(frozen=True)
class Sensitivity:
    """tolerance: one standard error (users redrawn) of the chosen value. nearby_loss: mean loss of random steps in all
    parameters at once, each up to 5 % of its range; NaN where it cannot be computed."""

    curves: Mapping[str, Curve]
    tolerance: float
    nearby_loss: float

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        curves = {
            name: {"at": _plain(c.at), "value": _plain(c.value), "flat_low": c.flat_low, "flat_high": c.flat_high}
            for name, c in self.curves.items()
        }
        return {"tolerance": _plain(self.tolerance), "nearby_loss": _plain(self.nearby_loss), "curves": curves}


def sensitivity(
    judge: Evaluator, space: Space, unit: Floats, tolerance: float, *, n_points: int = 21, n_nearby: int = 64, seed: int = 0
) -> Sensitivity:
    """Walk around a chosen point `unit` `[P]` of the cube.

    >>> from core.logs import LoggedDataset; from fusion.formula import Formula; from fusion.search import *
    >>> rng = np.random.default_rng(0); good = rng.random(400)
    >>> log = LoggedDataset({"user_id": np.repeat(np.arange(20), 20), "score_good": good, "score_bad": rng.random(400),
    ...                      "click": (good > 0.5).astype(float)})
    >>> f = Formula.parse("a * good + b * bad", tasks=["good", "bad"], params=["a", "b"])
    >>> found = sensitivity(Evaluator(f, Panel(log, Objective([gauc("click")]))), Space([Param("a"), Param("b")]),
    ...                     np.array([1.0, 0.0]), 0.01)
    >>> found.curves["b"].flat_low, found.curves["b"].flat_high < 0.5
    (0.0, True)
    """
    unit = np.clip(np.asarray(unit, dtype=np.float64), 0.0, 1.0)
    best = float(judge(space.decode(unit[None])).values[0])
    curves = {}
    for i, name in enumerate(space.names):
        steps = np.unique(np.append(np.linspace(0, 1, n_points), unit[i]))
        points = np.repeat(unit[None], len(steps), axis=0)
        points[:, i] = steps
        vectors = space.decode(points)
        values = judge(vectors).values
        low, high = _stretch(values >= best - tolerance - 1e-12, int(np.searchsorted(steps, unit[i])))
        curves[name] = Curve(vectors[:, i], values, float(vectors[low, i]), float(vectors[high, i]))
    nearby = np.clip(unit + np.random.default_rng(seed).uniform(-0.05, 0.05, (n_nearby, len(space))), 0.0, 1.0)
    return Sensitivity(curves, tolerance, float(best - judge(space.decode(nearby)).values.mean()))


def _stretch(within: np.ndarray, at: int) -> tuple[int, int]:
    """The first and last of the steps around `at` that are all within."""
    low = high = at
    while low > 0 and within[low - 1]:
        low -= 1
    while high < len(within) - 1 and within[high + 1]:
        high += 1
    return low, high


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(x) for x in value.tolist()]
    return float(value) if np.isfinite(value) else None
