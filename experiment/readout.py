"""The readout: every metric of an experiment with intervals, what could invalidate it, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from core.errors import ConfigError
from experiment.effects import Effect
from experiment.guardrails import GuardrailResult, Verdict, check_guardrail, decide
from experiment.metrics import Metric
from experiment.multiplicity import adjust
from experiment.plain import plain
from experiment.plan_parts import Experiment
from experiment.power import days_needed
from experiment.sequential import always_valid
from experiment.srm import SRM_LIMIT, srm_p_value
from experiment.store.interface import EventStore
from experiment.units import DAY_MS, UnitTable, read_units


@dataclass(frozen=True, slots=True)
class Readout:
    """One metric of one treatment against the control. NaN with a `status` where a number cannot be computed."""

    metric: str
    bucket: str
    control: float
    treatment: float
    diff: float
    diff_low: float
    diff_high: float
    p_value: float
    n_control: int
    n_treatment: int
    status: str = "ok"
    rel_diff: float = float("nan")
    rel_diff_low: float = float("nan")
    rel_diff_high: float = float("nan")
    p_adjusted: float = float("nan")
    se: float = float("nan")
    goal: str = "up"
    days_needed: float = float("nan")


@dataclass(frozen=True)
class Report:
    """A readout of one experiment. `to_json` gives plain values; NaN becomes null."""

    experiment: str
    control: str
    rows: tuple[Readout, ...]
    counts: Mapping[str, int]
    srm_p: float
    verdicts: Mapping[str, Verdict]
    guardrails: tuple[GuardrailResult, ...] = ()
    sequential: bool = False
    alpha: float = 0.05
    n_multiple: int = 0
    n_forced: int = 0
    n_immature: int = 0
    lost: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The first treatment's verdict; with several treatments read `verdicts`."""
        return next(iter(self.verdicts.values()))

    def row(self, metric: str, bucket: str | None = None) -> Readout:
        """One row, of the first treatment by default."""
        for row in self.rows:
            if row.metric == metric and bucket in (None, row.bucket):
                return row
        raise ConfigError(f"the readout has no metric {metric!r}; it has {', '.join(dict.fromkeys(r.metric for r in self.rows))}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for HTTP, files and pages."""
        value: dict[str, Any] = plain({**asdict(self), "verdict": asdict(self.verdict) if self.verdicts else None})
        return value


def readout(
    store: EventStore,
    experiment: Experiment,
    metrics: Sequence[Metric] | Mapping[str, Metric],
    *,
    control: str | None = None,
    now_ms: int | None = None,
    correction: str = "fdr",
) -> Report:
    """Read an experiment from the store.

    Args:
        experiment: From a plan: buckets, weights, unit and its `analysis` section.
        metrics: All declared metrics; the experiment's own list, primary and guardrails choose among them by name.
        control: The bucket to compare with, as the plan says by default.
        now_ms: The time of reading, for metric windows.
        correction: p-values of metrics other than the primary across metrics and treatments: `fdr`, `fwer` or `none`.

    Raises:
        ConfigError: An unknown bucket or metric.
    """
    chosen = choose_metrics(experiment, metrics)
    units = read_units(store, experiment, chosen, now_ms=now_ms)
    return analyze_units(units, chosen, control=control, correction=correction, losses=store.losses())


def analyze_units(
    units: UnitTable,
    metrics: Sequence[Metric],
    *,
    control: str | None = None,
    correction: str = "fdr",
    losses: Mapping[str, int] | None = None,
) -> Report:
    """The same from a unit table."""
    experiment = units.experiment
    rule = experiment.analysis
    baseline = experiment.bucket(control or experiment.control).name
    arms = {name: units.arm(name) for name in units.buckets}
    effects: dict[tuple[str, str], Effect] = {}
    treatments = [name for name in units.buckets if name != baseline]
    for treatment in treatments:
        for metric in metrics:
            effect = metric.analyze(arms[baseline], arms[treatment], alpha=rule.alpha)
            if rule.sequential:
                effect = always_valid(effect, arms[baseline].n, arms[treatment].n, alpha=rule.alpha)
            effects[metric.name, treatment] = effect
    adjusted = adjust({key: effect.p_value for key, effect in effects.items()}, correction, primary=rule.primary)
    by_name = {metric.name: metric for metric in metrics}
    days = _days(units)
    rows = tuple(
        _row(by_name[name], treatment, effect, arms[baseline].n, arms[treatment].n, adjusted[name, treatment], days, rule.alpha)
        for (name, treatment), effect in effects.items()
    )
    srm_p = srm_p_value(units.assigned, experiment.weights)
    lost = _lost(units, losses or {})
    total = len(units.bucket) + units.n_multiple
    guardrails, verdicts = [], {}
    for treatment in treatments:
        checks = [
            check_guardrail(g.metric, treatment, effects[g.metric, treatment], by_name[g.metric].goal, g.margin, rule.alpha)
            for g in rule.guardrails
        ]
        guardrails += checks
        primary = effects.get((rule.primary, treatment)) if rule.primary else None
        if primary is not None and len(treatments) > 1:
            primary = replace(primary, p_value=adjusted[str(rule.primary), treatment])
        verdicts[treatment] = decide(
            treatment,
            primary,
            by_name[rule.primary].goal if rule.primary in by_name else "up",
            checks,
            srm_p=srm_p,
            multiple_share=units.n_multiple / total if total else 0.0,
            losses=lost,
            alpha=rule.alpha,
            days_needed=next((r.days_needed for r in rows if r.metric == rule.primary and r.bucket == treatment), None),
        )
    return Report(
        experiment.name,
        baseline,
        rows,
        units.counts(),
        srm_p,
        verdicts,
        tuple(guardrails),
        rule.sequential,
        rule.alpha,
        units.n_multiple,
        units.n_forced,
        units.n_immature,
        lost,
        _warnings(units, metrics, srm_p),
    )


def choose_metrics(experiment: Experiment, metrics: Sequence[Metric] | Mapping[str, Metric]) -> list[Metric]:
    """The metrics of an experiment: its own list, its primary and its guardrails, or all when it names none."""
    declared = dict(metrics) if isinstance(metrics, Mapping) else {metric.name: metric for metric in metrics}
    rule = experiment.analysis
    named = [*([rule.primary] if rule.primary else []), *rule.metrics, *(guardrail.metric for guardrail in rule.guardrails)]
    for name in named:
        if name not in declared:
            raise ConfigError(
                f"experiment {experiment.name!r}: unknown metric {name!r}; metrics are {', '.join(declared) or 'none'}"
            )
    chosen = dict.fromkeys(named) if rule.metrics else dict.fromkeys([*named, *declared])
    if not chosen:
        raise ConfigError(f"experiment {experiment.name!r} has no metrics; declare some in the plan's `metrics`")
    return [declared[name] for name in chosen]


def _row(
    metric: Metric, treatment: str, effect: Effect, n_control: int, n_treatment: int, p_adjusted: float, days: float, alpha: float
) -> Readout:
    return Readout(
        metric.name,
        treatment,
        effect.control,
        effect.treatment,
        effect.diff,
        effect.diff_low,
        effect.diff_high,
        effect.p_value,
        n_control,
        n_treatment,
        effect.status,
        effect.rel_diff,
        effect.rel_diff_low,
        effect.rel_diff_high,
        p_adjusted,
        effect.se,
        metric.goal,
        days_needed(effect, days, alpha=alpha),
    )


def _days(units: UnitTable) -> float:
    """How long units have been arriving."""
    if len(units.first_ms) < 2:
        return float("nan")
    return max(float(units.first_ms.max() - units.first_ms.min()) / DAY_MS, 1 / 24)


def _lost(units: UnitTable, losses: Mapping[str, int]) -> dict[str, float]:
    """Share of exposures lost by bucket of this experiment."""
    shares = {}
    for bucket in units.buckets:
        n = losses.get(f"{units.experiment.name}/{bucket}", 0)
        if n:
            arm = units.arm(bucket)
            stored = float(arm.column("sum_exposures").sum()) if arm.has("sum_exposures") else float(arm.n)
            shares[bucket] = n / (n + stored)
    return shares


def _warnings(units: UnitTable, metrics: Sequence[Metric], srm_p: float) -> tuple[str, ...]:
    rule = units.experiment.analysis
    found = []
    if srm_p < SRM_LIMIT:
        found.append(f"sample-ratio mismatch: p = {srm_p:.2g}")
    if np.isnan(srm_p):
        found.append("the sample ratio cannot be checked: no units yet")
    if units.n_multiple:
        found.append(f"{units.n_multiple} units were seen in several buckets and are left out")
    if units.n_unknown:
        found.append(
            f"{units.n_unknown} units are in buckets that the plan does not name and are left out; read with the plan that served"
        )
    if units.n_immature:
        found.append(f"{units.n_immature} units are still inside their {rule.window_days:g}-day window and are left out")
    if rule.shared_inventory:
        found.append(
            "buckets share inventory: what one bucket shows changes what the other can; the difference may be overstated"
        )
    if any(metric.cuped for metric in metrics) and not rule.pre_days:
        found.append("cuped is asked for, but pre_days is 0: nothing is adjusted")
    if rule.sequential and rule.window_days is None:
        found.append("sequential reading without window_days: returning users keep changing their numbers")
    return tuple(found)
