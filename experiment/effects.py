"""One bucket's units as moments, and the effect of one bucket against another with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tea_tasting as tt

from core.arrays import Floats
from core.errors import DataError

NAN = float("nan")


@dataclass(frozen=True)
class Arm:
    """The units of one bucket: numbers per unit, `[n]` each, and their means and covariances computed once."""

    columns: Mapping[str, Floats]

    @cached_property
    def n(self) -> int:
        """Number of units."""
        return len(next(iter(self.columns.values()), ()))

    @cached_property
    def _moments(self) -> tuple[dict[str, int], Floats, Floats]:
        names = {name: index for index, name in enumerate(self.columns)}
        table = np.empty((len(names), self.n))
        for name, index in names.items():
            table[index] = self.columns[name]
        means = table.mean(axis=1) if self.n else np.full(len(names), NAN)
        if self.n < 2:
            return names, means, np.full((len(names), len(names)), NAN)
        table -= means[:, None]
        return names, means, table @ table.T / (self.n - 1)

    @classmethod
    def from_moments(cls, n: int, names: Sequence[str], means: Floats, covariance: Floats) -> Arm:
        """A bucket known only by its moments; it has no columns, so quantiles cannot be read from it."""
        arm = cls({})
        arm.__dict__.update(n=n, _moments=({name: i for i, name in enumerate(names)}, means, covariance))
        return arm

    def has(self, name: str) -> bool:
        """Whether the column was computed."""
        return name in self._moments[0]

    def column(self, name: str) -> Floats:
        """A column `[n]`."""
        if name not in self.columns:
            raise DataError(f"no unit column {name!r}; columns are {', '.join(self.columns)}")
        return self.columns[name]

    def mean(self, name: str) -> float:
        """Mean over units."""
        names, means, _ = self._moments
        return float(means[names[name]])

    def spread(self, name: str) -> float:
        """Sample variance over units."""
        names, _, covariance = self._moments
        return float(covariance[names[name], names[name]])

    def aggregates(self, names: Sequence[str]) -> tt.aggr.Aggregates:
        """The moments of some columns as tea-tasting takes them."""
        index, means, covariance = self._moments
        rows = {name: index[name] for name in names}
        return tt.aggr.Aggregates(
            self.n,
            {name: float(means[i]) for name, i in rows.items()},
            {name: float(covariance[i, i]) for name, i in rows.items()},
            {(a, b): float(covariance[i, j]) for a, i in rows.items() for b, j in rows.items() if a < b},
        )


@dataclass(frozen=True, slots=True)
class Effect:
    """Treatment against control. Bounds are NaN with a status where they cannot be computed.

    `se` is the standard error of `diff`; `rel_*` are shares of the control's value.
    """

    control: float
    treatment: float
    diff: float
    diff_low: float
    diff_high: float
    se: float
    p_value: float
    rel_diff: float = NAN
    rel_diff_low: float = NAN
    rel_diff_high: float = NAN
    rel_se: float = NAN
    status: str = "ok"

    @classmethod
    def empty(cls, status: str, *, control: float = NAN, treatment: float = NAN) -> Effect:
        """No estimate, and why."""
        return cls(control, treatment, NAN, NAN, NAN, NAN, NAN, status=status)

    def with_relative(self, relative: tuple[float, float, float], se: float = NAN) -> Effect:
        """With the relative effect, its bounds and its standard error."""
        rel, low, high = relative
        return replace(self, rel_diff=rel, rel_diff_low=low, rel_diff_high=high, rel_se=se)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def relative_variance(control: float, var_control: float, treatment: float, var_treatment: float) -> float:
    """Variance of `treatment / control - 1` by the delta method; the variances are those of the two estimates."""
    return var_treatment / control**2 + var_control * treatment**2 / control**4


def delta_relative(
    control: float, var_control: float, treatment: float, var_treatment: float, critical: float
) -> tuple[float, float, float]:
    """Relative effect with a symmetric interval of `critical` standard errors by the delta method."""
    if control <= 0:
        return NAN, NAN, NAN
    relative = treatment / control - 1
    half = critical * float(np.sqrt(relative_variance(control, var_control, treatment, var_treatment)))
    return relative, relative - half, relative + half
