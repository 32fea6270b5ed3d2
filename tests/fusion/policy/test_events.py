"""Sessions, ends, rewards and holes of a log small enough to work out by hand; what would mislead is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.errors import DataError
from core.events import REQUEST_SCHEMA
from fusion.policy.events import PolicyNames, from_events
from fusion.policy.reward import Reward
from fusion.policy.transitions import Transitions

NAMES = PolicyNames(["x"], ["w"], np.zeros(1), np.ones(1), ["click", "like"])
REWARD = Reward({"activeness": {"like": 2.0}, "stickiness": {"watch_s": 0.1}})
MINUTE = 60_000


def row(request_id: str, user: int, minute: float, **changes: Any) -> dict[str, Any]:
    """One request of an exploring policy, with x = the minute."""
    plain = dict.fromkeys(REQUEST_SCHEMA.names)
    values = {
        "request_id": request_id, "time_ms": int(minute * MINUTE), "user_id": str(user), "user_key": user, "propensity": 0.5,
        "state": [minute], "action": [0.25], "baseline": [0.0], "component": "near", "component_density": 0.5,
        "candidates": np.array([7, 8, 9]).tobytes(), "candidate_scores": np.arange(6, dtype=np.float16).tobytes(),
    }  # fmt: skip
    return {**plain, **values, **changes}


LOG = [row("c", 2, 0.5), row("b", 1, 10), row("a", 1, 0), row("d", 1, 100), row("e", 1, 120)]
FEEDBACK = [("a", "like", 1.0), ("a", "watch_s", 30.0), ("b", "like", 2.0), ("e", "click", 1.0), ("zzz", "like", 9.0)]


def table(log: list[dict[str, Any]], **changes: Any) -> Transitions:
    """The transitions of some requests."""
    requests = pa.Table.from_pylist(log, schema=pa.schema([*REQUEST_SCHEMA, ("user_key", pa.int64())]))
    feedback = pa.table(dict(zip(("request_id", "task", "value"), map(list, zip(*FEEDBACK, strict=True)), strict=True)))
    return from_events(requests, feedback, **{"names": NAMES, "reward": REWARD, **changes})


def test_pauses_divide_sessions_and_feedback_pays_them() -> None:
    t = table(LOG)
    assert t.obs[:, 0].tolist() == [0, 10, 100, 120, 0.5]  # user 1 twice, user 2
    assert t.session.tolist() == [0, 0, 1, 1, 2]
    assert t.step.tolist() == [0, 1, 0, 1, 0]
    assert t.next_obs[:, 0].tolist() == [10, 10, 120, 120, 0.5]
    assert t.reward.tolist() == [5, 4, 0, 0, 0]
    assert t.rewards.tolist() == [[2, 3], [4, 0], [0, 0], [0, 0], [0, 0]]
    assert t.terminated.tolist() == [False, True, False, False, True]
    assert t.truncated.tolist() == [False, False, False, True, False]  # the log ends 0 minutes after e
    assert t.candidate_scores is not None
    assert t.candidate_scores[0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_the_log_s_end_decides_what_is_still_open() -> None:
    assert table(LOG, until_ms=151 * MINUTE).terminated.tolist() == [False, True, False, True, True]
    assert table(LOG, gap_s=0.0).session.tolist() == [0, 1, 2, 3, 4]
    assert table(LOG, until_ms=151 * MINUTE, step_limit=2).truncated.tolist() == [False, True, False, True, False]


def test_the_caller_s_sessions_and_pages_go_first() -> None:
    """Request b came late: the caller's numbers say it is the first page."""
    log = [row("a", 1, 0, session="s", step=1), row("b", 1, 1, session="s", step=0), row("c", 1, 2, session="t", step=0)]
    t = table(log)
    assert t.obs[:, 0].tolist() == [1, 0, 2]
    assert t.session.tolist() == [0, 0, 1]
    assert t.terminated.tolist() == [False, True, False]  # s is over: t followed
    assert t.truncated.tolist() == [False, False, True]


def test_sessions_of_other_strategies_are_none_of_ours() -> None:
    other = row("o", 1, 500, state=None, action=None, baseline=None, component=None)
    assert table([*LOG, other]).session.tolist() == [0, 0, 1, 1, 3]


def test_parts_of_a_log_number_their_sessions_on() -> None:
    assert table(LOG, first_session=10).session.tolist() == [10, 10, 11, 11, 12]


def test_boxes_and_slates() -> None:
    shown = pa.table({"request_id": ["a", "a", "c", "c"], "item_id": [8, 7, 9, 8], "position": [2, 1, 1, 2]})
    t = table([row("a", 1, 0, box=0.5), row("c", 2, 0, box=0.5)], exposures=shown)
    assert t.box.tolist() == [0.5, 0.5]
    assert t.slate is not None
    assert t.slate.tolist() == [[7, 8], [9, 8]]
    with pytest.raises(DataError, match="outside the box"):
        table([row("a", 1, 0, box=0.1)])


def test_feedback_that_names_its_item_earns_at_its_position() -> None:
    """Of page a: a like of the second item, one of an item that was not shown, 30 seconds of the page as a whole."""
    shown = pa.table({"request_id": ["a", "a", "c", "c"], "item_id": [8, 7, 9, 8], "position": [2, 1, 1, 2]})
    events = [("a", 8, "like", 1.0), ("a", 5, "like", 1.0), ("a", None, "watch_s", 30.0), ("c", 9, "like", 0.5)]
    events += [("c", 9, "like", 1.0), ("zzz", 9, "like", 9.0)]
    feedback = pa.table(dict(zip(("request_id", "item_id", "task", "value"), map(list, zip(*events, strict=True)), strict=True)))
    schema = pa.schema([*REQUEST_SCHEMA, ("user_key", pa.int64())])
    requests = pa.Table.from_pylist([row("a", 1, 0), row("c", 2, 0)], schema=schema)
    t = from_events(requests, feedback, shown, names=NAMES, reward=REWARD)
    assert t.reward.tolist() == [7, 3]
    assert t.position_rewards is not None
    assert t.position_rewards.tolist() == [[0, 2], [3, 0]]
    unnamed = from_events(requests, feedback.drop_columns(["item_id"]), shown, names=NAMES, reward=REWARD)
    assert unnamed.position_rewards is None
    assert from_events(requests, feedback, names=NAMES, reward=REWARD).position_rewards is None


HOLES: dict[str, list[dict[str, Any]]] = {
    "a fallback between": [
        row("a", 1, 0),
        row("b", 1, 1, state=None, action=None, baseline=None, component=None),
        row("c", 1, 2),
    ],
    "a fallback first": [row("a", 1, 0, state=None, action=None, baseline=None, component=None), row("b", 1, 1)],
    "a fallback last": [row("a", 1, 0), row("b", 1, 1, state=None, action=None, baseline=None, component=None)],
    "a lost page": [row("a", 1, 0, session="s", step=0), row("b", 1, 1, session="s", step=2)],
    "a lost first page": [row("b", 1, 1, session="s", step=1)],
}


@pytest.mark.parametrize("name", HOLES)
def test_sessions_with_holes_are_refused_or_left_out(name: str) -> None:
    other = row("z", 9, 0, session="u", step=0) if "lost" in name else row("z", 9, 0)
    log = [*HOLES[name], other]
    with pytest.raises(DataError, match=r"have holes|end with a page that has no state"):
        table(log)
    assert table(log, gaps="drop").obs[:, 0].tolist() == [0]
    assert len(table(log, gaps="drop")) == 1


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ([], "no request of this policy"),
        ([row("a", 1, 0, state=None)], "none of 1 requests has a state"),
        ([row("a", 1, 0, propensity=None)], "none of 1 requests has a propensity"),
        ([row("a", 1, 0, component="")], "did not explore"),
        ([row("a", 1, 0, state=[1.0, 2.0])], "made by another policy"),
        ([row("a", 1, 0, action=[1.5])], "outside"),
    ],
)
def test_logs_that_cannot_be_learned_from_are_refused(log: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        table(log)
