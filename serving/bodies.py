"""Bodies: what callers send, read by hand (orjson, Arrow) into checked requests; every refusal names the field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from core.arrays import AnyArray, Ints
from core.errors import DataError, RequestError
from core.events import FEEDBACK_SCHEMA, Request
from core.logs import LoggedDataset

ARROW = "application/vnd.apache.arrow.stream"
ID_MAX = 128
CONTEXT_MAX = 64
DEFAULT_PAGE = 10
_RANK_FIELDS = frozenset({"request_id", "user_id", "scenario", "context", "candidates", "features", "page_size", "explain"})
_EVENT_FIELDS = frozenset(FEEDBACK_SCHEMA.names)
_INT64_MAX = 2**63


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest request that is read at all."""

    body_bytes_max: int = 2_000_000
    candidates_max: int = 2_000
    page_size_max: int = 200
    feedback_max: int = 10_000


def rank_json(body: bytes, limits: Limits, time_ms: int) -> tuple[Request, bool]:
    """A JSON ranking body as a request, and whether it asks for an explanation.

    >>> request, explain = rank_json(b'{"user_id": 7, "candidates": [3, 1]}', Limits(), time_ms=0)
    >>> request.user_id, request.candidates.tolist(), request.page_size, explain
    ('7', [3, 1], 10, False)
    """
    value = _object(body)
    candidates = value.get("candidates")
    if not isinstance(candidates, list):
        raise RequestError("candidates must be a list of item ids (whole numbers)", field="candidates")
    _count(len(candidates), limits)
    features = value.get("features")
    columns = None if features is None else _inline(features, len(candidates))
    return _request(value, _ids(candidates), columns, limits, time_ms)


def rank_arrow(body: bytes, limits: Limits, time_ms: int) -> tuple[Request, bool]:
    """An Arrow stream as a request: `item_id` and feature columns; the rest as JSON in the schema's metadata `request`."""
    table = read_arrow(body)
    metadata = table.schema.metadata or {}
    value = _object(metadata.get(b"request", b"{}"), field="metadata.request")
    if "item_id" not in table.column_names:
        raise RequestError("the Arrow stream has no column item_id", field="item_id")
    _count(table.num_rows, limits)
    if not pa.types.is_integer(table.schema.field("item_id").type) or table.column("item_id").null_count:
        raise RequestError("item_id must be whole numbers without nulls", field="item_id")
    ids = table.column("item_id").cast(pa.int64()).to_numpy()
    features = None
    if table.num_columns > 1:
        log = _columns(table.drop_columns(["item_id"]))
        for name, column in log.items():
            _finite(name, column)
        features = log
    return _request(value, np.ascontiguousarray(ids), features, limits, time_ms)


def feedback(body: bytes, content_type: str, limits: Limits, time_ms: int) -> pa.Table:
    """Feedback events (JSON `{"events": [...]}`, one event, or an Arrow stream) as a table of the core's schema."""
    if content_type.startswith(ARROW):
        table = read_arrow(body)
        for name in ("event_id", "request_id", "item_id", "task"):
            if name not in table.column_names:
                raise RequestError(f"the Arrow stream has no column {name}", field=name)
        events = table.to_pylist()
    else:
        value = _object(body)
        events = value.get("events", [value])
    if not isinstance(events, list) or not events:
        raise RequestError("events must be a list of at least one event", field="events")
    if len(events) > limits.feedback_max:
        raise RequestError(
            f"{len(events)} events are too many; send at most {limits.feedback_max} a call", field="events", status=413
        )
    return pa.Table.from_pylist([_event(event, i, time_ms) for i, event in enumerate(events)], schema=FEEDBACK_SCHEMA)


def read_arrow(body: bytes) -> pa.Table:
    """An Arrow IPC stream; anything else is a 400."""
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
            table.validate(full=True)
            return table
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, ValueError) as error:
        raise RequestError(f"the body is not an Arrow stream: {error}", field="body", status=400) from error


def write_arrow(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def new_id() -> str:
    """A random request id of 32 hexadecimal digits."""
    return os.urandom(16).hex()


def _object(body: bytes, field: str = "body") -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{field} is not JSON: {error}", field=field, status=400) from error
    if not isinstance(value, dict):
        raise RequestError(f"{field} must be a JSON object", field=field)
    return value


def _request(
    value: dict[str, Any], ids: Ints, features: Mapping[str, AnyArray] | None, limits: Limits, time_ms: int
) -> tuple[Request, bool]:
    if not value.keys() <= _RANK_FIELDS:
        unknown = sorted(value.keys() - _RANK_FIELDS)[0]
        raise RequestError(f"unknown field {unknown!r}; fields are {', '.join(sorted(_RANK_FIELDS))}", field=unknown)
    user_id = value.get("user_id")
    if type(user_id) is int:
        user_id = str(user_id)
    elif not isinstance(user_id, str) or not 0 < len(user_id) <= ID_MAX:
        raise RequestError(f"user_id must be text of 1 to {ID_MAX} characters or a whole number", field="user_id")
    request_id = value.get("request_id")
    if request_id is None:
        request_id = new_id()
    elif not isinstance(request_id, str) or not 0 < len(request_id) <= ID_MAX:
        raise RequestError(f"request_id must be text of 1 to {ID_MAX} characters", field="request_id")
    scenario = value.get("scenario", "")
    if not isinstance(scenario, str) or len(scenario) > ID_MAX:
        raise RequestError(f"scenario must be text of at most {ID_MAX} characters", field="scenario")
    context = value.get("context") or {}
    if context:
        _check_context(context)
    page_size = value.get("page_size", min(DEFAULT_PAGE, limits.page_size_max))
    if type(page_size) is not int or not 0 < page_size <= limits.page_size_max:
        raise RequestError(f"page_size must be a whole number from 1 to {limits.page_size_max}", field="page_size")
    explain = value.get("explain", False)
    if not isinstance(explain, bool):
        raise RequestError("explain must be true or false", field="explain")
    if len(set(ids.tolist())) != len(ids):  # upstream merged several sources: the first mention of an item counts
        rows = np.unique(ids, return_index=True)[1]
        rows.sort()
        ids = ids[rows]
        features = None if features is None else {name: column[rows] for name, column in features.items()}
    return Request(request_id, user_id, ids, scenario, context, features, page_size, time_ms), explain


def _check_context(context: Any) -> None:
    if not isinstance(context, dict):
        raise RequestError("context must be an object of name: value", field="context")
    if len(context) > CONTEXT_MAX:
        raise RequestError(f"context has {len(context)} entries; at most {CONTEXT_MAX} are read", field="context")
    for name, entry in context.items():
        if not isinstance(entry, str | int | float | bool | None):
            raise RequestError(f"context.{name} must be text, a number or true/false", field=f"context.{name}")


def _count(n: int, limits: Limits) -> None:
    if n == 0:
        raise RequestError("candidates is empty; send at least one item id", field="candidates")
    if n > limits.candidates_max:
        raise RequestError(f"{n} candidates are too many; send at most {limits.candidates_max}", field="candidates")


def _ids(values: list[Any]) -> Ints:
    if set(map(type, values)) == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass
    wrong = next(v for v in values if type(v) is not int or not -_INT64_MAX <= v < _INT64_MAX)
    raise RequestError(f"candidates holds {str(wrong)[:40]!r}; item ids are whole numbers of 64 bits", field="candidates")


def _inline(features: Any, n: int) -> dict[str, AnyArray]:
    if not isinstance(features, dict):
        raise RequestError("features must be an object of column: list with one value per candidate", field="features")
    columns: dict[str, AnyArray] = {}
    for name, values in features.items():
        field = f"features.{name}"
        if not isinstance(values, list) or len(values) != n:
            raise RequestError(f"{field} must be a list of {n} values, one per candidate", field=field)
        try:
            column = np.array(values)
        except ValueError:  # lists of differing lengths: sequences or multi-hot ids
            column = np.empty(n, object)
            column[:] = [np.asarray(entry) for entry in values]
        if column.dtype.kind not in "iufUO":
            raise RequestError(f"{field} must hold numbers or text", field=field)
        if column.dtype.kind == "O" and any(entry is None for entry in values):
            raise RequestError(f"{field} holds null; send a number for every candidate", field=field)
        _finite(name, column)
        columns[name] = column
    return columns


def _columns(table: pa.Table) -> dict[str, AnyArray]:
    for name in table.column_names:
        if table.column(name).null_count:
            raise RequestError(f"features.{name} holds null; send a value for every candidate", field=f"features.{name}")
    try:
        return LoggedDataset.from_arrow(table).columns
    except (DataError, pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        raise RequestError(f"the Arrow columns cannot be read as features: {error}", field="features") from error


def _finite(name: str, column: AnyArray) -> None:
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        raise RequestError(f"features.{name} holds NaN or infinity; send finite numbers", field=f"features.{name}")


def _event(event: Any, index: int, time_ms: int) -> dict[str, Any]:
    at = f"events[{index}]"
    if not isinstance(event, dict):
        raise RequestError(f"{at} must be an object", field=at)
    unknown = sorted(event.keys() - _EVENT_FIELDS)
    if unknown:
        raise RequestError(
            f"{at}: unknown field {unknown[0]!r}; fields are {', '.join(FEEDBACK_SCHEMA.names)}", field=f"{at}.{unknown[0]}"
        )
    for name in ("event_id", "request_id", "task"):
        value = event.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= ID_MAX:
            raise RequestError(f"{at}.{name} must be text of 1 to {ID_MAX} characters", field=f"{at}.{name}")
    item = event.get("item_id")
    if type(item) is not int or not -_INT64_MAX <= item < _INT64_MAX:
        raise RequestError(f"{at}.item_id must be a whole number of 64 bits", field=f"{at}.item_id")
    value = event.get("value", 1.0)
    if type(value) not in (int, float) or not np.isfinite(value):
        raise RequestError(f"{at}.value must be a finite number", field=f"{at}.value")
    when = event.get("time_ms")
    if when is None:
        when = time_ms
    elif type(when) is not int or not 0 <= when < _INT64_MAX:
        raise RequestError(f"{at}.time_ms must be milliseconds since 1970 (UTC)", field=f"{at}.time_ms")
    return {
        "event_id": event["event_id"],
        "request_id": event["request_id"],
        "item_id": item,
        "task": event["task"],
        "value": float(value),
        "time_ms": when,
    }
