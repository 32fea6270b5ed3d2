"""Tasks: names are unique and checked, JSON round-trips, and only per-item numbers become score columns."""

import pytest

from core.errors import ConfigError
from core.tasks import TaskSet, TaskSpec


def test_json_round_trip_keeps_every_field() -> None:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("grade", "multiclass", "user", n_classes=7), TaskSpec("hate", goal="down")])
    assert TaskSet.from_json(tasks.to_json()) == tasks


def test_scored_leaves_out_user_level_and_multiclass() -> None:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("kind_of", "multiclass", n_classes=3), TaskSpec("pay", level="user")])
    assert tasks.scored == ("click",)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "is click"}, "not an identifier"),
        ({"name": "class"}, "not an identifier"),
        ({"name": "a", "kind": "ordinal"}, "kind 'ordinal' is not one of binary"),
        ({"name": "a", "goal": "sideways"}, "goal 'sideways'"),
        ({"name": "a", "kind": "multiclass"}, "n_classes"),
        ({"name": "a", "kind": "multiclass", "n_classes": 1}, "at least 2"),
        ({"name": "a", "colour": 1}, "unknown field 'colour'"),
        ({"kind": "binary"}, "has no name"),
    ],
)
def test_a_wrong_task_says_what_is_wrong(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TaskSet.from_json([fields])


def test_doubled_and_missing_names() -> None:
    with pytest.raises(ConfigError, match="declared twice"):
        TaskSet([TaskSpec("a"), TaskSpec("a")])
    with pytest.raises(ConfigError, match="at least one"):
        TaskSet([])
    with pytest.raises(ConfigError, match="unknown task 'b'; tasks are a"):
        TaskSet([TaskSpec("a")])["b"]
