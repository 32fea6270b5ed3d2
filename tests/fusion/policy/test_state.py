"""States are worked out by hand, name what they lack, and in the simulator's words are the simulator's observations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.policy.state import Feature, NoState, StateSpec

SPEC = StateSpec(
    [
        Feature("is_fan", "user", "cohort", equals="2"),
        Feature("past_like", "user", "past_like", transform="log"),
        Feature("days", "request", "days_since", high=30, scale=1 / 30),
        Feature("likes", "request", "session_like", scale=0.5, transform="log1p"),
        Feature("mean", "scores", "like", scale=2.0),
        Feature("best", "scores", "like", transform="log1p", stat="best"),
    ]
)
USER = {"cohort": 2, "past_like": np.e, "age": 30}
REQUEST = {"days_since": 60, "session_like": 2, "scenario": "feed"}
SCORES = ScoreTable(("click", "like"), np.array([[0.9, 0.25], [0.1, 0.75]]))


def test_a_state_worked_out_by_hand() -> None:
    np.testing.assert_allclose(SPEC.see(USER, REQUEST, SCORES), [1, 1, 1, np.log(2), 1, np.log1p(0.75)], rtol=1e-6)
    assert SPEC.see({**USER, "cohort": "3"}, REQUEST, SCORES)[0] == 0
    assert (SPEC.user_columns, SPEC.request_columns, SPEC.tasks) == (
        ("cohort", "past_like"),
        ("days_since", "session_like"),
        ("like",),
    )


def test_json_and_back() -> None:
    again = StateSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    assert again.features == SPEC.features
    np.testing.assert_array_equal(again.see(USER, REQUEST, SCORES), SPEC.see(USER, REQUEST, SCORES))


@pytest.mark.parametrize(
    ("user", "request_", "lacks"),
    [
        ({}, REQUEST, "cohort"),
        ({**USER, "past_like": None}, REQUEST, "past_like"),
        ({**USER, "past_like": -1.0}, REQUEST, "past_like"),
        (USER, {"days_since": 1}, "session_like"),
        (USER, {**REQUEST, "days_since": "yesterday"}, "days_since"),
        (USER, {**REQUEST, "session_like": float("nan")}, "session_like"),
    ],
)
def test_what_a_request_lacks_is_named(user: dict[str, Any], request_: dict[str, Any], lacks: str) -> None:
    with pytest.raises(NoState) as caught:
        SPEC.see(user, request_, SCORES)
    assert caught.value.column == lacks


def test_scores_of_another_ranker_are_named() -> None:
    with pytest.raises(NoState, match="needs 'like'"):
        SPEC.see(USER, REQUEST, ScoreTable(("click",), np.ones((1, 1))))


def test_bad_declarations_are_refused() -> None:
    with pytest.raises(ConfigError, match="not one of user, request, scores"):
        Feature("a", "moon", "b")
    with pytest.raises(ConfigError, match="a name of its own"):
        StateSpec([Feature("a", "user", "b"), Feature("a", "user", "c")])
    with pytest.raises(ConfigError, match="unexpected keyword"):
        StateSpec.from_json([{"name": "a", "source": "user", "column": "b", "eval": "1"}])
