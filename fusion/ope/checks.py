"""The contract every off-policy estimator keeps; each check raises AssertionError with what was broken.

A check is given a log whose world is known: the policy that wrote it, a policy near to it with its true value, and one that does
what the log never did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np

from fusion.ope.estimate import Estimate
from fusion.ope.evaluate import Evaluator
from fusion.ope.target import Target

Estimator = Callable[[Evaluator, Target], Estimate]


@dataclass(frozen=True, slots=True)
class Case:
    """A log with its truth.

    Attributes:
        behaviour: The policy that wrote it, with its noise. near: Another one that it covers, worth `truth` a session.
        far: A policy that does what the log hardly ever did.
    """

    evaluator: Evaluator
    behaviour: Target
    near: Target
    truth: float
    far: Target


Check = Callable[[Estimator, Case], None]


def behaviour_has_ratio_one(estimate: Estimator, case: Case) -> None:
    """The policy that wrote the log weighs every page exactly 1."""
    ratio = case.evaluator.steps(case.behaviour).ratio
    assert (ratio == 1.0).all(), f"the logging policy's ratios run from {ratio.min()} to {ratio.max()}, not exactly 1"


def agrees_with_the_log(estimate: Estimator, case: Case) -> None:
    """Of the policy that wrote the log an estimator says what the log says, within its interval."""
    found, logged = estimate(case.evaluator, case.behaviour), case.evaluator.logged
    assert found.status == "ok", f"the logging policy itself got {found.status}"
    half = max(found.high - found.low, logged.high - logged.low) / 2
    assert abs(found.value - logged.value) <= 1.5 * half, f"the log's mean is {logged.value}, the estimate {found.value}"


def finds_the_truth(estimate: Estimator, case: Case) -> None:
    """The interval, half as wide again, holds the near policy's true value, and is no wider than the value itself."""
    found = estimate(case.evaluator, case.near)
    assert found.status == "ok", f"the near policy got {found.status}"
    assert found.low <= found.value <= found.high, f"{found.value} lies outside its own interval {found.low} to {found.high}"
    assert found.high - found.low < abs(case.truth), f"an interval from {found.low} to {found.high} says nothing"
    low, high = found.value + 1.5 * (found.low - found.value), found.value + 1.5 * (found.high - found.value)
    assert low <= case.truth <= high, f"the truth {case.truth} lies outside {low} to {high}"


def refuses_without_overlap(estimate: Estimator, case: Case) -> None:
    """What the log never did gets a status and no number."""
    found = estimate(case.evaluator, case.far)
    assert found.status == "too_little_overlap", f"a policy far from the log got {found.status}: {found.value}"
    assert not any(map(isfinite, (found.value, found.low, found.high))), "a refused estimate has numbers"


def answers_the_same_twice(estimate: Estimator, case: Case) -> None:
    """Two calls give one answer."""
    first, second = estimate(case.evaluator, case.near), estimate(case.evaluator, case.near)
    same = np.array_equal([first.value, first.low, first.high], [second.value, second.low, second.high], equal_nan=True)
    assert (same, first.status) == (True, second.status), f"first {first}, then {second}"


CHECKS: Final[tuple[Check, ...]] = (
    behaviour_has_ratio_one,
    agrees_with_the_log,
    finds_the_truth,
    refuses_without_overlap,
    answers_the_same_twice,
)
