"""Guardrails by non-inferiority, and the verdict: ship, stop or wait, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from core.tasks import Goal
from experiment.effects import Effect
from experiment.srm import SRM_LIMIT

Decision = Literal["ship", "stop", "wait"]
GuardrailStatus = Literal["held", "broken", "unclear"]
MULTIPLE_LIMIT = 0.005  # share of units that may be seen in two buckets
LOSS_LIMIT = 0.001  # share of exposures that may be lost


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """A guardrail's test. `p_value` is that of "worse by the margin or more"; `held` rejects it."""

    metric: str
    treatment: str
    margin: float
    status: GuardrailStatus
    p_value: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one treatment, and why."""

    treatment: str
    decision: Decision
    reason: str


def check_guardrail(name: str, treatment: str, effect: Effect, goal: Goal, margin: float, alpha: float = 0.05) -> GuardrailResult:
    """One-sided non-inferiority: is the treatment worse by less than `margin` of the control's value?

    `held` when the one-sided test rejects "worse by the margin or more"; `broken` when it is significantly worse at all and
    its estimate passes the margin; `unclear` otherwise, also when there is no estimate.

    >>> effect = Effect(1.0, 1.0, 0.0, -0.002, 0.002, 0.001, 1.0)
    >>> check_guardrail("watch", "b", effect, "up", 0.01).status
    'held'
    """
    if not np.isfinite(effect.se) or effect.se <= 0 or not effect.control > 0:
        return GuardrailResult(name, treatment, margin, "unclear", float("nan"))
    sign = 1.0 if goal == "up" else -1.0
    better = sign * effect.diff
    # the limit moves with the control's own estimate; its error is second order in the margin and is left out
    p_value = float(stats.norm.sf((better + margin * effect.control) / effect.se))
    if p_value < alpha:
        return GuardrailResult(name, treatment, margin, "held", p_value)
    worse = better < -margin * effect.control and effect.p_value < alpha
    return GuardrailResult(name, treatment, margin, "broken" if worse else "unclear", p_value)


def decide(
    treatment: str,
    primary: Effect | None,
    goal: Goal,
    guardrails: Sequence[GuardrailResult],
    *,
    srm_p: float,
    multiple_share: float = 0.0,
    losses: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    days_needed: float | None = None,
) -> Verdict:
    """Blockers first (broken assignment, broken log), then guardrails, then the primary metric."""
    if srm_p < SRM_LIMIT:
        return Verdict(
            treatment,
            "wait",
            f"sample-ratio mismatch (p = {srm_p:.2g}): assignment or logging is broken, no effect can be trusted",
        )
    if multiple_share > MULTIPLE_LIMIT:
        return Verdict(
            treatment, "wait", f"{multiple_share:.2%} of units were seen in several buckets: the unit's id is not stable"
        )
    lost = {bucket: share for bucket, share in (losses or {}).items() if share > LOSS_LIMIT}
    if lost:
        bucket, share = max(lost.items(), key=lambda item: item[1])
        return Verdict(treatment, "wait", f"{share:.2%} of the exposures of {bucket} were lost: the log is incomplete")
    broken = [result.metric for result in guardrails if result.status == "broken"]
    if broken:
        return Verdict(treatment, "stop", f"guardrail {', '.join(broken)} is worse by more than its margin")
    if primary is None:
        return Verdict(treatment, "wait", "no primary metric is declared")
    if not np.isfinite(primary.p_value):
        return Verdict(treatment, "wait", f"the primary metric cannot be computed yet ({primary.status})")
    better = primary.diff if goal == "up" else -primary.diff
    if primary.p_value < alpha and better < 0:
        return Verdict(treatment, "stop", f"the primary metric is worse (p = {primary.p_value:.2g})")
    unclear = [result.metric for result in guardrails if result.status == "unclear"]
    if primary.p_value < alpha and not unclear:
        return Verdict(treatment, "ship", f"the primary metric is better (p = {primary.p_value:.2g}) and every guardrail holds")
    if primary.p_value < alpha:
        return Verdict(
            treatment, "wait", f"the primary metric is better but guardrail {', '.join(unclear)} is not proven harmless yet"
        )
    more = f"; about {days_needed:.0f} more days at this traffic" if days_needed is not None and np.isfinite(days_needed) else ""
    return Verdict(treatment, "wait", f"no difference in the primary metric is proven (p = {primary.p_value:.2g}){more}")
