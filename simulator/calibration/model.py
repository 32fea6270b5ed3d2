"""The fitted model of a log's impressions: who comes, what is shown, and the chain of behaviours, all in plain numbers.

An impression's click is logistic in scenario, duration, hour, the user's activity and the item's popularity, with a random effect
per user and per item; its watch time is a quantile of its cell (click, scenario, duration), with the quantile itself partly the
user's and the item's; a long view follows from watch time and duration; each interaction is logistic in all of those and in the
interactions before it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Ints
from core.errors import DataError

N_HOURS = 6  # blocks of four hours
RATIO_EDGES = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0, 1.01, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0)
N_QUANTILES = 101


@dataclass(slots=True)
class Logistic:
    """Coefficients by factor level, one per yes/no column, and the spreads of the random effects, all on the logit scale."""

    intercept: float
    levels: dict[str, list[float]]
    flags: dict[str, float] = field(default_factory=dict)
    spread_user: float = 0.0
    spread_item: float = 0.0

    def logit(self, factors: dict[str, Ints], flags: dict[str, AnyArray] | None = None) -> Floats:
        """The fixed part, `[n]`."""
        total = np.full(len(next(iter(factors.values()))), self.intercept)
        for name, coefficients in self.levels.items():
            total += np.array(coefficients)[factors[name]]
        for name, coefficient in self.flags.items():
            total += coefficient * np.asarray((flags or {})[name], float)
        return total


@dataclass(slots=True)
class LogModel:
    """Everything that `sample` needs; made by `fit`, kept as JSON.

    Counts are per `window_days` days; `watch` `[n_cells, 101]` are quantiles in seconds; `facts` are figures cited from
    elsewhere, which the fitted rows cannot give.
    """

    name: str
    window_days: int
    start_ms: int
    n_users: int
    n_items: int
    scenarios: list[str]
    scenario_share: list[float]
    scenario_concentration: float  # of users' scenarios around the share, as a Dirichlet's
    item_scenarios: list[list[float]]  # shares by popularity level
    item_concentration: float
    hour_share: list[list[float]]  # by scenario, 24 each
    activity: list[float]  # quantiles of a user's impressions in a window, 0 included
    activity_persistence: float
    activity_edges: list[float]
    popularity: list[float]  # quantiles of an item's impressions
    popularity_edges: list[float]
    popularity_churn: float  # standard deviation of the log of an item's popularity from window to window
    duration: list[list[float]]  # quantiles by popularity level
    duration_edges: list[float]
    heads: list[str]
    click: Logistic
    watch: list[list[float]]
    watch_popularity: list[list[float]]  # shift of the watch quantile's normal score by click and popularity level
    watch_spread_user: float
    watch_spread_item: float
    watch_click_user: float  # correlation of a user's effects on click and on watch time
    watch_click_item: float
    long_view: list[list[float]]  # by click, by ratio bin of watch time to the long view's bound
    long_view_s: float
    interactions: dict[str, Logistic]
    facts: dict[str, Any] = field(default_factory=dict)

    def watch_cell(self, click: Bools, scenario: Ints, duration_bin: Ints) -> Ints:
        """The row of `watch` for each impression."""
        n_bins = len(self.duration_edges) + 1
        return (click.astype(np.int64) * len(self.scenarios) + scenario) * n_bins + duration_bin

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(_rounded(asdict(self)), separators=(",", ":"), sort_keys=True) + "\n")
        return target

    @classmethod
    def load(cls, path: str | Path) -> LogModel:
        """The inverse of `save`.

        Raises:
            DataError: The file is not a fitted model.
        """
        try:
            values = json.loads(Path(path).read_text())
            values["click"] = Logistic(**values["click"])
            values["interactions"] = {name: Logistic(**part) for name, part in values["interactions"].items()}
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{str(path)!r} is no calibration ({error}); make one with `scorefusion simulate --calibrate LOG`"
            ) from error


def bin_of(values: AnyArray, edges: list[float] | tuple[float, ...]) -> Ints:
    """The bin of each value: 0 at or below the first edge.

    >>> bin_of(np.array([1.0, 2.0, 9.0]), [1.0, 5.0]).tolist()
    [0, 1, 2]
    """
    return np.searchsorted(np.asarray(edges, float), np.asarray(values, float), side="left").astype(np.int64)


def ratio_bin(watch_s: AnyArray, duration_s: AnyArray, long_view_s: float) -> Ints:
    """The bin of watch time over min(duration, bound); items of unknown length (0 s) are held against the bound."""
    bound = np.where(np.asarray(duration_s) > 0, np.minimum(duration_s, long_view_s), long_view_s)
    return bin_of(np.asarray(watch_s) / bound, RATIO_EDGES)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value
