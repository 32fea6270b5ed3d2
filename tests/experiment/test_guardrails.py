"""Guardrails hold, break or stay open by the margin; a verdict names the first thing that stands in its way."""

from __future__ import annotations

import pytest
from scipy import stats

from experiment.effects import Effect
from experiment.guardrails import GuardrailResult, check_guardrail, decide


def effect(diff: float, se: float = 0.01, control: float = 1.0) -> Effect:
    p_value = float(2 * stats.norm.sf(abs(diff) / se))
    return Effect(control, control + diff, diff, diff - 1.96 * se, diff + 1.96 * se, se, p_value)


@pytest.mark.parametrize(
    ("diff", "se", "goal", "status"),
    [
        (0.0, 0.003, "up", "held"),  # lower bound -.005 is inside the margin of .01
        (0.0, 0.02, "up", "unclear"),
        (-0.05, 0.01, "up", "broken"),
        (-0.05, 0.01, "down", "held"),
        (0.05, 0.01, "down", "broken"),
        (-0.015, 0.01, "up", "unclear"),  # beyond the margin, but not proven worse
        (-0.005, 0.001, "up", "held"),  # proven worse, but by less than the margin
    ],
)
def test_guardrail(diff: float, se: float, goal: str, status: str) -> None:
    result = check_guardrail("m", "b", effect(diff, se), "up" if goal == "up" else "down", 0.01)
    assert result.status == status


def test_nothing_known_is_unclear() -> None:
    assert check_guardrail("m", "b", Effect.empty("too_few_units"), "up", 0.01).status == "unclear"


HELD = GuardrailResult("g", "b", 0.01, "held", 0.001)
BROKEN = GuardrailResult("g", "b", 0.01, "broken", 0.9)
OPEN = GuardrailResult("g", "b", 0.01, "unclear", 0.4)


@pytest.mark.parametrize(
    ("primary", "guardrails", "fields", "decision", "reason"),
    [
        (effect(0.1), [HELD], {}, "ship", "every guardrail holds"),
        (effect(0.1), [HELD], {"srm_p": 1e-5}, "wait", "sample-ratio mismatch"),
        (effect(0.1), [HELD], {"multiple_share": 0.02}, "wait", "several buckets"),
        (effect(0.1), [HELD], {"losses": {"b": 0.002}}, "wait", "exposures of b were lost"),
        (effect(0.1), [BROKEN], {}, "stop", "guardrail g is worse"),
        (effect(0.1), [OPEN], {}, "wait", "not proven harmless"),
        (effect(-0.1), [HELD], {}, "stop", "primary metric is worse"),
        (effect(0.001), [HELD], {"days_needed": 12.4}, "wait", "about 12 more days"),
        (None, [], {}, "wait", "no primary metric"),
        (Effect.empty("too_early"), [], {}, "wait", "too_early"),
    ],
)
def test_verdict(
    primary: Effect, guardrails: list[GuardrailResult], fields: dict[str, float], decision: str, reason: str
) -> None:
    verdict = decide("b", primary, "up", guardrails, **{"srm_p": 0.5, **fields})  # type: ignore[arg-type]  # fields by name
    assert verdict.decision == decision
    assert reason in verdict.reason
