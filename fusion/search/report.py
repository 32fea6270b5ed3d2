"""What a search found: the choice with its intervals, all trials, the Pareto front as data and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from core.arrays import Bools, Floats, Ints
from core.logs import LoggedDataset
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.monotone import Direction
from fusion.formula_strategy import FormulaStrategy
from fusion.search.bootstrap import Interval
from fusion.search.guardrails import Guardrail
from fusion.search.objective import Objective
from fusion.search.sensitivity import Sensitivity
from fusion.search.space import Space


@dataclass(frozen=True, slots=True)
class Baseline:
    """Weights that were not searched for, and what they are worth on the search days and on the later day."""

    weights: Mapping[str, float]
    value_search: float
    value_heldout: float


class Gain(NamedTuple):
    """One metric on the later day: the control's, the choice's, and the paired interval of their difference."""

    control: float
    chosen: float
    interval: Interval


@dataclass(frozen=True)
class SearchResult:
    """The outcome of `search`.

    Attributes:
        weights: The chosen parameters, normalised; `weight_intervals` from choosing again on resampled users.
        value_search, value_heldout: The objective where it was chosen and on the later day: the difference is the winner's curse.
        gain_heldout: Over `hand_set` on the later day, paired by user in its interval; gains_heldout: the same for every metric.
        directions, goals: By task, how its score moves the chosen final (proved) and how it should; empty when search() was
            given no tasks.
        vectors `[n, P]`, values `[n]`, terms `[n, M]`, violations `[n]`: all trials.
        status: `ok`, or `no_trial_keeps_the_guardrails` when the least violating one was taken.
    """

    formula: Formula
    space: Space
    objective: Objective
    searcher: str
    seed: int
    status: str
    weights: Mapping[str, float]
    weight_intervals: Mapping[str, Interval]
    value_search: float
    value_heldout: float
    value_heldout_interval: Interval
    terms_search: Mapping[str, float]
    terms_heldout: Mapping[str, float]
    hand_set: Baseline
    random200: Baseline
    gain_heldout: float
    gain_heldout_interval: Interval
    gains_heldout: Mapping[str, Gain]
    guardrails: tuple[Guardrail, ...]
    directions: Mapping[str, Direction]
    goals: Mapping[str, str]
    sensitivity: Sensitivity
    vectors: Floats
    values: Floats
    terms: Floats
    violations: Floats
    n_nonfinite: Ints
    calibration: Calibration | None
    data_fingerprint: str

    @property
    def strategy(self) -> FormulaStrategy:
        """The chosen formula with its weights, ready to serve or publish."""
        return FormulaStrategy(self.formula, self.weights, self.calibration)

    @property
    def trials(self) -> LoggedDataset:
        """One row a trial: `param_<name>`, `value`, `term_<metric>`, `violation`, `n_nonfinite`, `on_front`."""
        columns: dict[str, Any] = {f"param_{name}": self.vectors[:, i] for i, name in enumerate(self.space.names)}
        columns["value"] = self.values
        columns |= {f"term_{name}": self.terms[:, i] for i, name in enumerate(self.objective.names)}
        return LoggedDataset(columns | {"violation": self.violations, "n_nonfinite": self.n_nonfinite, "on_front": self.front})

    @property
    def front(self) -> Bools:
        """`[n]`: trials within the guardrails that no other such trial beats in every metric."""
        return pareto(np.where((self.violations == 0)[:, None], self.objective.signed(self.terms), np.nan))

    @property
    def front_table(self) -> pa.Table:
        """The front's trials."""
        return self.trials.take(self.front).to_arrow()

    def summary(self) -> dict[str, Any]:
        """The result as JSON values, without the trials."""
        return {
            "formula": self.formula.text,
            "searcher": self.searcher,
            "seed": self.seed,
            "n_trials": len(self.values),
            "status": self.status,
            "objective": self.objective.to_json(),
            "weights": dict(self.weights),
            "weight_intervals": {name: _pair(pair) for name, pair in self.weight_intervals.items()},
            "value_search": self.value_search,
            "value_heldout": self.value_heldout,
            "value_heldout_interval": _pair(self.value_heldout_interval),
            "terms_search": _finite(self.terms_search),
            "terms_heldout": _finite(self.terms_heldout),
            "hand_set": _baseline(self.hand_set),
            "random200": _baseline(self.random200),
            "gain_heldout": self.gain_heldout,
            "gain_heldout_interval": _pair(self.gain_heldout_interval),
            "gain_search": self.value_search - self.hand_set.value_search,
            "gains_heldout": {
                name: {**_finite({"control": gain.control, "chosen": gain.chosen}), "interval": _pair(gain.interval)}
                for name, gain in self.gains_heldout.items()
            },
            "guardrails": {guard.metric: guard.eps for guard in self.guardrails},
            "directions": dict(self.directions),
            "sensitivity": self.sensitivity.to_json(),
            "data_fingerprint": self.data_fingerprint,
        }


def pareto(points: Floats) -> Bools:
    """Rows `[n, M]` that no other row reaches or passes in every column while passing it in one; rows with NaN are never in.

    >>> pareto(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [True, True, False]
    """
    front = np.zeros(len(points), dtype=bool)
    rows = np.flatnonzero(~np.isnan(points).any(axis=1))
    rows = rows[np.lexsort(-points[rows].T[::-1])]
    best = np.empty((0, points.shape[1]))
    for row in rows:  # best first in the first column: only those before it can beat a row
        point = points[row]
        if not ((best >= point).all(axis=1) & (best > point).any(axis=1)).any():
            front[row] = True
            best = np.vstack([best, point])
    return front


def _pair(pair: Interval) -> list[float | None]:
    return [None if math.isnan(x) else x for x in pair]


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(x) else x for name, x in values.items()}


def _baseline(baseline: Baseline) -> dict[str, Any]:
    return {"weights": dict(baseline.weights), "search": baseline.value_search, "heldout": baseline.value_heldout}
