"""Properties of every learned fusion: monotone whatever the scores and the context, blind to order, strict about NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import AnyArray, Floats
from core.errors import DataError
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.checks import moves_with_the_goals
from fusion.fused import FusionStrategy
from fusion.learned.base import LearnedStrategy
from fusion.learned.inputs import Inputs
from fusion.learned.responses import responses
from tests.fusion.learned.made import LOG, NAMES, TASKS, made

SCORE = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1e-9, 1e-6, 0.5, 1 - 1e-6, 1.0]))
ROW = st.lists(SCORE, min_size=3, max_size=3)
HOUR = st.one_of(st.integers(0, 23).map(float), st.floats(-1e6, 1e6))


def final(strategy: FusionStrategy, row: list[float], hour: float) -> float:
    return float(strategy.fuse(ScoreTable(TASKS.names, np.array([row])), {"hour": hour}).final[0])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(NAMES), ROW, st.integers(0, 2), SCORE, HOUR)
def test_a_higher_score_never_moves_the_final_against_its_goal(
    name: str, row: list[float], column: int, to: float, hour: float
) -> None:
    strategy = made(name).strategy
    raised = list(row)
    raised[column] = max(row[column], to)
    before, after = final(strategy, row, hour), final(strategy, raised, hour)
    sign = 1 if TASKS[column].goal == "up" else -1
    assert sign * (after - before) >= -1e-9 * max(1.0, abs(before))


@pytest.mark.parametrize("name", NAMES)
def test_tied_items_stay_tied_and_order_plays_no_part(name: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 4, (60, 3)) / 4  # many equal rows
    order = rng.permutation(60)
    straight, turned = (made(name).strategy.fuse(ScoreTable(TASKS.names, v), {"hour": 9}).final for v in (values, values[order]))
    np.testing.assert_array_equal(straight[order], turned)
    for row in np.unique(values, axis=0):
        assert len(set(straight[(values == row).all(axis=1)])) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_task(name: str, bad: float) -> None:
    values = np.full((4, 3), 0.5)
    values[2, 1] = bad
    with pytest.raises(DataError, match="a score of 'like' is not finite"):
        made(name).strategy.fuse(ScoreTable(TASKS.names, values), {"hour": 9})


class Falling(LearnedStrategy):
    """Broken: the final score falls with every score."""

    kind = "falling"

    def values(self, x: Floats, s: Floats) -> Floats:
        return np.asarray(-(x.sum(axis=1)))

    def arrays(self) -> dict[str, AnyArray]:
        return {}

    @property
    def proof(self) -> str:
        return "none"

    @classmethod
    def from_arrays(cls, inputs: Inputs, arrays: Mapping[str, AnyArray], calibration: Calibration | None = None) -> Self:
        return cls(inputs, calibration)


def test_a_broken_one_fails() -> None:
    broken = Falling(Inputs.of(TASKS))
    with pytest.raises(AssertionError, match="against its goal"):
        moves_with_the_goals(broken, ScoreTable(TASKS.names, np.random.default_rng(0).random((9, 3))), {}, TASKS)
    answers = responses(broken, LOG)
    assert answers["click"]["wrong_steps"] == answers["click"]["n_steps"]
    assert answers["hate"]["wrong_steps"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_responses_of_a_learned_one_go_no_wrong_step(name: str) -> None:
    answers = responses(made(name).strategy, LOG)
    assert [answer["wrong_steps"] for answer in answers.values()] == [0, 0, 0]
    assert answers["like"]["mean"][-1] > answers["like"]["mean"][0]
    assert answers["hate"]["mean"][-1] <= answers["hate"]["mean"][0]
