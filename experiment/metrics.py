"""Metrics: named parameters, the per-unit columns they need, and one pure analysis of two buckets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import tea_tasting as tt
from scipy import stats

from core.errors import ConfigError
from core.tasks import Goal
from experiment.delta import relative_effect
from experiment.effects import Arm, Effect, delta_relative

COUNTS = ("exposures", "requests", "active_days")  # what a unit has without any feedback
Aggregation = Literal["sum", "any"]


@dataclass(frozen=True, slots=True)
class UnitColumn:
    """A number per unit: the sum of a task's feedback values (or one of `COUNTS`), or whether it has any above zero."""

    source: str
    aggregation: Aggregation = "sum"

    @property
    def name(self) -> str:
        """The column's name in a unit table."""
        return f"{self.aggregation}_{self.source}"

    @property
    def before(self) -> str:
        """The name of the same number from the time before the unit's first exposure."""
        return f"pre_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(ABC):
    """What is compared between buckets; one row a unit.

    Args:
        name: As reports show it.
        goal: `up` when more is better.
        cuped: Adjust by the same numbers from the `pre_days` before the unit's first exposure.
        method: How the relative effect gets its interval: `log` (tea-tasting's) or `delta` (symmetric).
    """

    kind: ClassVar[str]
    name: str
    goal: Goal = "up"
    cuped: bool = False
    method: Literal["log", "delta"] = "log"

    @property
    @abstractmethod
    def columns(self) -> tuple[UnitColumn, ...]:
        """The unit columns it reads."""

    @abstractmethod
    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        """The treatment's effect against the control; NaN with a status where it cannot be computed."""

    def value(self, arm: Arm) -> float:
        """The metric of one bucket, unadjusted."""
        first, *rest = (arm.mean(column.name) for column in self.columns)
        return first / rest[0] if rest and rest[0] else (float("nan") if rest else first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(Metric):
    """Mean per unit of the sum of a task's values (or of a count): likes per user, watch seconds per user."""

    kind: ClassVar[str] = "mean"
    task: str

    @property
    def columns(self) -> tuple[UnitColumn, ...]:
        return (UnitColumn(self.task),)

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        return _analyze(self, control, treatment, alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion(Metric):
    """Share of units with at least one positive event of a task: users who liked anything."""

    kind: ClassVar[str] = "proportion"
    task: str

    @property
    def columns(self) -> tuple[UnitColumn, ...]:
        return (UnitColumn(self.task, "any"),)

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        return _analyze(self, control, treatment, alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(Metric):
    """Ratio of two sums with units as clusters (delta method): clicks per exposure, watch seconds per request."""

    kind: ClassVar[str] = "ratio"
    numerator: str
    denominator: str = "exposures"

    @property
    def columns(self) -> tuple[UnitColumn, ...]:
        return UnitColumn(self.numerator), UnitColumn(self.denominator)

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        return _analyze(self, control, treatment, alpha)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile(Metric):
    """A quantile over units of the sum of a task's values: the median user's watch seconds.

    The standard error comes from the order statistics around the quantile (Woodruff 1952); the difference is taken as normal.
    """

    kind: ClassVar[str] = "quantile"
    task: str
    q: float = 0.5

    @property
    def columns(self) -> tuple[UnitColumn, ...]:
        return (UnitColumn(self.task),)

    def value(self, arm: Arm) -> float:
        return float(np.quantile(arm.column(self.columns[0].name), self.q)) if arm.n else float("nan")

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        least = 20 / min(self.q, 1 - self.q)
        if min(control.n, treatment.n) < least:
            return Effect.empty("too_few_units")
        name = self.columns[0].name
        a, se_a = _woodruff(control.column(name), self.q)
        b, se_b = _woodruff(treatment.column(name), self.q)
        se = float(np.hypot(se_a, se_b))
        if se == 0:
            return Effect.empty("no_variance", control=a, treatment=b)
        z = stats.norm.isf(alpha / 2)
        return Effect(a, b, b - a, b - a - z * se, b - a + z * se, se, 2 * stats.norm.sf(abs(b - a) / se)).with_relative(
            delta_relative(a, se_a**2, b, se_b**2, z)
        )


METRICS: Mapping[str, type[Metric]] = {"mean": Mean, "proportion": Proportion, "ratio": Ratio, "quantile": Quantile}


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not get worse by more than `margin` (a relative share of the control's value)."""

    metric: str
    margin: float = 0.01


def read_metric(row: Any) -> Metric:
    """A metric from plain values.

    >>> read_metric({"name": "ctr", "kind": "ratio", "numerator": "click", "denominator": "exposures"}).columns[1].name
    'sum_exposures'
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
        raise ConfigError(f"metric {row!r} must be a mapping with a name")
    name, kind = row["name"], row.get("kind", "mean")
    if kind not in METRICS:
        raise ConfigError(f"metric {name!r}: kind {kind!r} is not one of {', '.join(METRICS)}")
    fields = {key: value for key, value in row.items() if key != "kind"}
    known = set(METRICS[kind].__dataclass_fields__) - {"kind"}
    for key in fields:
        if key not in known:
            raise ConfigError(f"metric {name!r}: unknown field {key!r}; a {kind} has {', '.join(sorted(known))}")
    try:
        metric = METRICS[kind](**fields)
    except TypeError as error:
        needed = "numerator" if kind == "ratio" else "task"
        raise ConfigError(f"metric {name!r}: a {kind} needs `{needed}`") from error
    for column in metric.columns:
        if not isinstance(column.source, str) or not column.source.isidentifier():
            raise ConfigError(f"metric {name!r}: {column.source!r} is not a task's name or one of {', '.join(COUNTS)}")
    for key, allowed in (("goal", ("up", "down")), ("method", ("log", "delta")), ("cuped", (True, False))):
        if getattr(metric, key) not in allowed:
            raise ConfigError(f"metric {name!r}: {key} {getattr(metric, key)!r} is not one of {allowed}")
    if isinstance(metric, Quantile) and not (isinstance(metric.q, float) and 0 < metric.q < 1):
        raise ConfigError(f"metric {name!r}: q {metric.q!r} must lie between 0 and 1")
    if isinstance(metric, Quantile) and metric.cuped:
        raise ConfigError(f"metric {name!r}: a quantile cannot use cuped; leave it out")
    return metric


def read_guardrail(row: Any) -> Guardrail:
    """A guardrail from plain values: a metric's name, or `{metric, margin}`."""
    if isinstance(row, str):
        return Guardrail(row)
    if not isinstance(row, Mapping) or set(row) - {"metric", "margin"} or "metric" not in row:
        raise ConfigError(f"guardrail {row!r} must be a metric's name or {{metric, margin}}")
    margin = row.get("margin", 0.01)
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0 < margin < 1:
        raise ConfigError(f"guardrail {row['metric']!r}: margin {margin!r} must be a share between 0 and 1")
    return Guardrail(str(row["metric"]), float(margin))


def with_goal(metric: Metric, goal: Goal) -> Metric:
    """The same metric with another goal."""
    return replace(metric, goal=goal)


def _analyze(metric: Metric, control: Arm, treatment: Arm, alpha: float) -> Effect:
    """Welch's test of means, proportions and ratios by tea-tasting, with its CUPED where asked and possible."""
    if min(control.n, treatment.n) < 2:
        return Effect.empty("too_few_units")
    numerator, *rest = metric.columns
    denominator = rest[0].name if rest else None
    if denominator is not None and min(control.mean(denominator), treatment.mean(denominator)) <= 0:
        return Effect.empty("no_denominator")
    before: tuple[str | None, str | None] = (None, None)
    note = "ok"
    if metric.cuped:
        names = [column.before for column in metric.columns]
        usable = all(arm.has(name) for arm in (control, treatment) for name in names)
        usable = usable and control.spread(names[0]) + treatment.spread(names[0]) > 0
        if usable and rest:
            usable = min(control.mean(names[1]), treatment.mean(names[1])) > 0
        if usable:
            before = (names[0], names[1] if rest else None)
        else:
            note = "no_pre_period"
    test = tt.RatioOfMeans(numerator.name, denominator, *before, confidence_level=1 - alpha)
    columns = [name for name in (numerator.name, denominator, *before) if name is not None]
    a, b = control.aggregates(columns), treatment.aggregates(columns)
    total = a + b
    var_a, var_b = (_adjusted_variance(test, arm, total) for arm in (a, b))
    if not var_a + var_b > 0:
        return Effect.empty("no_variance", control=metric.value(control), treatment=metric.value(treatment))
    result = test.analyze_aggregates(a, b)
    se = float(np.sqrt(var_a / control.n + var_b / treatment.n))
    effect = Effect(
        result.control,
        result.treatment,
        result.effect_size,
        result.effect_size_ci_lower,
        result.effect_size_ci_upper,
        se,
        result.pvalue,
        status=note,
    )
    if result.control <= 0 or result.treatment <= 0:
        return effect
    relative = relative_effect(a, b, numerator.name, denominator, *before, alpha=alpha)
    if metric.method == "delta":
        return effect.with_relative((relative.value, relative.low, relative.high), relative.se)
    bounds = (result.rel_effect_size, result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper)
    return effect.with_relative(bounds, relative.se)


def _adjusted_variance(test: Any, arm: Any, total: Any) -> float:
    """Variance of one unit's linearised, CUPED-adjusted value; the same numbers tea-tasting's own test uses."""
    slope = 0.0
    if test.numer_covariate is not None:
        spread = total.ratio_var(test.numer_covariate, test.denom_covariate)
        slope = _covariance(test, total) / spread if spread > 0 else 0.0
    variance = arm.ratio_var(test.numer, test.denom)
    if slope:
        variance += slope**2 * arm.ratio_var(test.numer_covariate, test.denom_covariate) - 2 * slope * _covariance(test, arm)
    return max(float(variance), 0.0)


def _covariance(test: Any, arm: Any) -> float:
    return float(arm.ratio_cov(test.numer, test.denom, test.numer_covariate, test.denom_covariate))


def _woodruff(values: Any, q: float) -> tuple[float, float]:
    n = len(values)
    half = 1.96 * np.sqrt(q * (1 - q) / n)
    low, middle, high = np.quantile(values, [max(q - half, 0), q, min(q + half, 1)])
    return float(middle), float(high - low) / (2 * 1.96)
