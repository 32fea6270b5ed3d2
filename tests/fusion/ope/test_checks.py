"""Every estimator keeps every contract; estimators that break one are found out."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from fusion.ope import BANDIT, ESTIMATORS, Estimate, Evaluator, Target
from fusion.ope.checks import CHECKS, Case, Check, Estimator
from tests.fusion.ope.small import MEAN_LENGTH, case

BROKEN: dict[str, tuple[Estimator, str]] = {
    "the log's mean for everybody": (
        lambda ev, target: replace(ev.logged, policy=target.name),
        "refuses_without_overlap",
    ),
    "a number out of the air": (
        lambda ev, target: Estimate(target.name, "air", "ok", 9.9, 9.8, 10.0),
        "finds_the_truth",
    ),
    "never an answer": (lambda ev, target: Estimate.empty(target.name, "mute", "too_little_overlap"), "agrees_with_the_log"),
    "an interval of everything": (
        lambda ev, target: Estimate(target.name, "wide", "ok", ev.logged.value, -1e9, 1e9),
        "finds_the_truth",
    ),
    "another answer each time": (lambda ev, target: _moody(target), "answers_the_same_twice"),
}
_CALLS: list[int] = []


def _moody(target: Target) -> Estimate:
    _CALLS.append(1)
    return Estimate(target.name, "moody", "ok", float(len(_CALLS)), nan, nan)


@pytest.fixture(scope="module")
def known() -> Case:
    return case()


@pytest.fixture(scope="module")
def single(known: Case) -> Case:
    """The same log with every page a decision of its own."""
    ev = known.evaluator
    pages = Evaluator(ev.episodes.pages(), features=ev.features, logging=ev.logging, settings=ev.settings)
    return replace(known, evaluator=pages, truth=known.truth / MEAN_LENGTH)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimator_keeps(name: str, check: Check, known: Case, single: Case) -> None:
    check(lambda ev, target: ev.estimate(name, target), single if name in BANDIT else known)


@pytest.mark.parametrize("what", BROKEN)
def test_broken_estimators_fail(what: str, known: Case) -> None:
    broken, wanted = BROKEN[what]
    failed = set()
    for check in CHECKS:
        try:
            check(broken, known)
        except AssertionError:
            failed.add(check.__name__)
    assert wanted in failed


def test_a_log_whose_densities_are_wrong_is_found_out(known: Case) -> None:
    ev: Evaluator = known.evaluator
    wrong = Evaluator(replace(ev.episodes, propensity=ev.episodes.propensity * 1.1))
    with pytest.raises(AssertionError, match="exactly 1"):
        CHECKS[0](lambda e, t: e.estimate("is", t), replace(known, evaluator=wrong))
