"""Bodies: good ones are read exactly, bad ones are refused with the field and the rule, whatever they hold."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RequestError
from core.events import FEEDBACK_SCHEMA
from serving import bodies
from serving.bodies import ARROW, Limits

LIMITS = Limits(candidates_max=5, page_size_max=4, feedback_max=3)


def rank(**changes: Any) -> Any:
    body = {"user_id": "u", "candidates": [1, 2]} | changes
    return bodies.rank_json(json.dumps({k: v for k, v in body.items() if v is not ...}).encode(), LIMITS, 5)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"candidates": []}, "candidates", "empty"),
        ({"candidates": ...}, "candidates", "must be a list"),
        ({"candidates": [1] * 6}, "candidates", "too many"),
        ({"candidates": [1, "2"]}, "candidates", "whole numbers"),
        ({"candidates": [1, True]}, "candidates", "whole numbers"),
        ({"candidates": [1.5]}, "candidates", "whole numbers"),
        ({"candidates": [2**63]}, "candidates", "64 bits"),
        ({"user_id": ...}, "user_id", "1 to 128"),
        ({"user_id": ""}, "user_id", "1 to 128"),
        ({"user_id": 1.5}, "user_id", "1 to 128"),
        ({"user_id": True}, "user_id", "1 to 128"),
        ({"request_id": 7}, "request_id", "1 to 128"),
        ({"page_size": 0}, "page_size", "1 to 4"),
        ({"page_size": 5}, "page_size", "1 to 4"),
        ({"page_size": True}, "page_size", "1 to 4"),
        ({"explain": 1}, "explain", "true or false"),
        ({"scenario": 3}, "scenario", "text"),
        ({"context": [1]}, "context", "object"),
        ({"context": {"a": [1]}}, "context.a", "text, a number"),
        ({"colour": 1}, "colour", "unknown field"),
        ({"features": [1]}, "features", "object"),
        ({"features": {"price": [1.0]}}, "features.price", "2 values"),
        ({"features": {"price": [1.0, None]}}, "features.price", "null"),
        ({"features": {"price": [True, False]}}, "features.price", "numbers or text"),
    ],
)
def test_a_bad_field_is_named(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError) as error:
        rank(**changes)
    assert (error.value.field, error.value.status) == (field, 422)
    assert words in str(error.value)


@pytest.mark.parametrize("body", [b"", b"{", b'{"user_id": NaN}', b"\xff\xfe", b'{"candidates": [1e999]}'])
def test_what_is_not_json_is_a_400(body: bytes) -> None:
    with pytest.raises(RequestError) as error:
        bodies.rank_json(body, LIMITS, 0)
    assert error.value.status == 400


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"null"])
def test_what_is_no_object_is_a_422(body: bytes) -> None:
    with pytest.raises(RequestError, match="JSON object"):
        bodies.rank_json(body, LIMITS, 0)


def status(read: Callable[[], Any]) -> int:
    try:
        read()
    except RequestError as error:
        return error.status
    return 200


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    assert status(lambda: bodies.rank_json(body, LIMITS, 0)) in (200, 400, 422)
    assert status(lambda: bodies.rank_arrow(body, LIMITS, 0)) in (200, 400, 422)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["user_id", "candidates", "events", "x"]), inner)


_LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)


@given(st.recursive(_LEAF, _nested))
def test_any_json_is_read_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    assert status(lambda: bodies.rank_json(body, LIMITS, 0)) in (200, 400, 422)
    assert status(lambda: bodies.feedback(body, "application/json", LIMITS, 0)) in (200, 400, 413, 422)


def test_doubled_candidates_count_once_and_take_their_features_along() -> None:
    request, _ = rank(candidates=[3, 1, 3], features={"price": [1.0, 2.0, 9.0]})
    assert request.candidates.tolist() == [3, 1]
    assert request.features is not None
    assert request.features["price"].tolist() == [1.0, 2.0]


def stream(columns: dict[str, Any], **about: Any) -> bytes:
    table = pa.table(columns)
    return bodies.write_arrow(table.replace_schema_metadata({"request": json.dumps(about)}))


def test_arrow_carries_features_and_fields() -> None:
    body = stream({"item_id": [5, 6], "price": [1.0, 2.0]}, user_id=9, page_size=2)
    request, _ = bodies.rank_arrow(body, LIMITS, 7)
    assert (request.user_id, request.page_size, request.time_ms) == ("9", 2, 7)
    assert request.candidates.tolist() == [5, 6]
    assert request.features is not None
    assert request.features["price"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ({"price": [1.0]}, "item_id", "no column item_id"),
        ({"item_id": pa.array([], pa.int64())}, "candidates", "empty"),
        ({"item_id": [1, None]}, "item_id", "without nulls"),
        ({"item_id": ["a"]}, "item_id", "whole numbers"),
        ({"item_id": [1], "price": [float("nan")]}, "features.price", "NaN"),
        ({"item_id": [1], "price": [float("inf")]}, "features.price", "NaN or infinity"),
        ({"item_id": [1], "price": pa.array([None], pa.float64())}, "features.price", "null"),
    ],
)
def test_bad_arrow_is_refused(columns: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError) as error:
        bodies.rank_arrow(stream(columns, user_id=1), LIMITS, 0)
    assert (error.value.field, error.value.status) == (field, 422)
    assert words in str(error.value)


EVENT = {"event_id": "e", "request_id": "r", "item_id": 3, "task": "click"}


def test_feedback_becomes_the_cores_table() -> None:
    table = bodies.feedback(json.dumps({"events": [EVENT, EVENT | {"value": 2, "time_ms": 9}]}).encode(), "", LIMITS, 5)
    assert table.schema == FEEDBACK_SCHEMA
    assert table.column("value").to_pylist() == [1.0, 2.0]
    assert table.column("time_ms").to_pylist() == [5, 9]
    assert bodies.feedback(json.dumps(EVENT).encode(), "", LIMITS, 5).num_rows == 1


def test_feedback_in_arrow_is_the_same() -> None:
    table = pa.table({"event_id": ["e"], "request_id": ["r"], "item_id": [3], "task": ["click"]})
    read = bodies.feedback(bodies.write_arrow(table), ARROW, LIMITS, 5)
    assert read.to_pylist() == [EVENT | {"value": 1.0, "time_ms": 5}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": 3}, "events[0].event_id"),
        ({"item_id": "x"}, "events[0].item_id"),
        ({"item_id": True}, "events[0].item_id"),
        ({"task": ""}, "events[0].task"),
        ({"value": "much"}, "events[0].value"),
        ({"time_ms": -1}, "events[0].time_ms"),
        ({"extra": 1}, "events[0].extra"),
    ],
)
def test_a_bad_event_is_named_and_nothing_is_taken(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as error:
        bodies.feedback(json.dumps({"events": [EVENT | change]}).encode(), "", LIMITS, 0)
    assert error.value.field == field


def test_too_many_events_are_refused() -> None:
    with pytest.raises(RequestError) as error:
        bodies.feedback(json.dumps({"events": [EVENT] * 4}).encode(), "", LIMITS, 0)
    assert error.value.status == 413


def test_ids_are_random_and_short() -> None:
    ids = {bodies.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(i) == 32 for i in ids)
    assert np.all([int(i, 16) >= 0 for i in ids])
