"""Every metric keeps its contracts, and a metric that breaks one is caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError
from experiment.checks import (
    METRIC_CHECKS,
    MetricCheck,
    check_metric_holds_its_interval_together,
    check_metric_is_antisymmetric,
    check_metric_says_when_it_cannot,
    example_arms,
)
from experiment.effects import Arm, Effect
from experiment.metrics import METRICS, Mean, Metric, Quantile, read_guardrail, read_metric

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "mean": [{"task": "like"}, {"task": "like", "cuped": True}, {"task": "like", "method": "delta"}],
    "proportion": [{"task": "like"}, {"task": "like", "cuped": True}],
    "ratio": [{"numerator": "click"}, {"numerator": "click", "cuped": True, "method": "delta"}],
    "quantile": [{"task": "click", "q": 0.5}, {"task": "click", "q": 0.9}],
}


def test_every_metric_has_an_example() -> None:
    assert set(EXAMPLES) == set(METRICS)


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("kind", "fields"), [(kind, fields) for kind, rows in EXAMPLES.items() for fields in rows])
def test_metric_keeps(kind: str, fields: dict[str, Any], check: MetricCheck) -> None:
    check(read_metric({"name": "m", "kind": kind, **fields}), example_arms())


class OneSided(Mean):
    """Never negative."""

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        effect = super().analyze(control, treatment, alpha=alpha)
        return replace(effect, diff=abs(effect.diff))


class Confident(Mean):
    """Always says p = 1 where it cannot say anything, and an interval that does not fit its p-value."""

    def analyze(self, control: Arm, treatment: Arm, *, alpha: float = 0.05) -> Effect:
        effect = super().analyze(control, treatment, alpha=alpha)
        return replace(effect, p_value=1.0 if np.isnan(effect.p_value) else 1 - effect.p_value)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (OneSided, check_metric_is_antisymmetric),
        (Confident, check_metric_holds_its_interval_together),
        (Confident, check_metric_says_when_it_cannot),
    ],
)
def test_a_broken_metric_is_caught(broken: type[Metric], check: MetricCheck) -> None:
    with pytest.raises(AssertionError):
        check(broken(name="m", task="like"), example_arms())  # type: ignore[call-arg]  # both are means


def test_a_quantile_finds_the_truth_and_covers_it() -> None:
    rng = np.random.default_rng(0)
    metric, covered = Quantile(name="q", task="x", q=0.75), 0
    for _ in range(400):
        a, b = (Arm({"sum_x": rng.exponential(scale, 600)}) for scale in (1.0, 1.2))
        effect = metric.analyze(a, b)
        covered += effect.diff_low < 0.2 * np.log(4) < effect.diff_high
    assert 0.92 < covered / 400 < 0.98


def test_cuped_without_a_pre_period_says_so() -> None:
    a, b = (Arm({"sum_like": arm.column("sum_like")}) for arm in example_arms())
    effect = Mean(name="m", task="like", cuped=True).analyze(a, b)
    assert effect.status == "no_pre_period"
    assert effect.diff == Mean(name="m", task="like").analyze(a, b).diff


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "m", "kind": "median", "task": "like"}, "kind 'median' is not one of mean, proportion, ratio, quantile"),
        ({"name": "m", "kind": "ratio", "task": "like"}, "unknown field 'task'"),
        ({"name": "m"}, "needs `task`"),
        ({"name": "m", "kind": "ratio"}, "needs `numerator`"),
        ({"name": "m", "task": "like; drop table"}, "is not a task's name"),
        ({"name": "m", "task": "like", "goal": "sideways"}, "goal 'sideways' is not one of"),
        ({"name": "m", "kind": "quantile", "task": "x", "q": 1.5}, "q 1.5 must lie between 0 and 1"),
        ({"name": "m", "kind": "quantile", "task": "x", "cuped": True}, "cannot use cuped"),
        ("likes", "must be a mapping with a name"),
    ],
)
def test_a_wrong_metric_is_one_clear_error(row: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_metric(row)


def test_guardrails_are_read() -> None:
    assert read_guardrail("ctr").margin == 0.01
    assert read_guardrail({"metric": "ctr", "margin": 0.02}).margin == 0.02
    with pytest.raises(ConfigError, match="must be a share between 0 and 1"):
        read_guardrail({"metric": "ctr", "margin": 0})
