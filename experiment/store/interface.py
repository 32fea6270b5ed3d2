"""What every event store does, and how rows are checked and keyed before they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from core.arrays import AnyArray, Ints
from core.errors import DataError
from core.events import ASSIGNMENT_SCHEMA, EXPOSURE_SCHEMA, FEEDBACK_SCHEMA, REQUEST_SCHEMA
from core.logs import LoggedDataset
from experiment.hashing import keys64


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: its columns, what makes a row the same row, which texts are keyed, what may not be missing.

    `unit` is the column whose rows are accepted or refused together when its value is already stored: an event, or a whole
    request. `within` are the columns that tell the rows of one unit apart.
    """

    name: str
    schema: pa.Schema
    unit: str
    within: tuple[str, ...]
    keys: Mapping[str, str]
    required: tuple[str, ...]

    @property
    def stored(self) -> pa.Schema:
        """The schema with its 64-bit key columns, by which tables are joined."""
        return pa.schema([*self.schema, *((key, pa.int64()) for key in self.keys)])

    @property
    def unit_key(self) -> str:
        """The key column of `unit`."""
        return next(key for key, column in self.keys.items() if column == self.unit)


TABLES: Mapping[str, TableSpec] = {
    "requests": TableSpec(
        "requests",
        REQUEST_SCHEMA,
        "request_id",
        (),
        {"request_key": "request_id", "user_key": "user_id"},
        ("request_id", "time_ms", "user_id"),
    ),
    "assignments": TableSpec(
        "assignments",
        ASSIGNMENT_SCHEMA,
        "request_id",
        ("layer", "experiment"),
        {"request_key": "request_id", "unit_key": "unit"},
        ("request_id", "time_ms", "experiment", "bucket", "unit", "forced"),
    ),
    "exposures": TableSpec(
        "exposures",
        EXPOSURE_SCHEMA,
        "request_id",
        ("item_id",),
        {"request_key": "request_id", "user_key": "user_id"},
        ("request_id", "time_ms", "user_id", "item_id"),
    ),
    "feedback": TableSpec(
        "feedback",
        FEEDBACK_SCHEMA,
        "event_id",
        (),
        {"event_key": "event_id", "request_key": "request_id"},
        ("event_id", "request_id", "item_id", "task", "value", "time_ms"),
    ),
}


@dataclass(frozen=True, slots=True)
class Appended:
    """What a committed append did: new rows and rows that were stored already, by table."""

    new: Mapping[str, int] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)


class EventStore(Protocol):
    """Events, kept once. Every method may be called from several threads; writes follow one another."""

    url: str
    dialect: str

    def append(
        self,
        *,
        requests: pa.Table | None = None,
        assignments: pa.Table | None = None,
        exposures: pa.Table | None = None,
        feedback: pa.Table | None = None,
    ) -> Appended:
        """Write rows of the schemas in `core.events`; when it returns they survive a kill.

        Feedback is idempotent by `event_id`, the others by `request_id`: all rows that one request has in a table come in one
        append, and a second append of the request to that table is a retry and changes nothing. Either everything of a call is
        stored or nothing.

        Raises:
            DataError: A column is missing or of another type, or a required value is null. Nothing is written.
            StoreError: The database refused.
        """

    def select(self, sql: str) -> dict[str, AnyArray]:
        """The columns of a query as numpy arrays."""

    def arrow(self, sql: str) -> pa.Table:
        """The result of a query as an Arrow table."""

    def record_plan(self, version: int, plan: str, *, who: str, time_ms: int, note: str = "") -> None:
        """Keep a plan's JSON text in the history."""

    def plans(self) -> list[dict[str, Any]]:
        """The history: `version`, `time_ms`, `who`, `note`, `plan`, oldest first."""

    def record_loss(self, table: str, bucket: str, n: int, *, time_ms: int) -> None:
        """Keep that `n` rows of a table could not be stored for a bucket (`experiment/bucket`)."""

    def losses(self) -> dict[str, int]:
        """Rows lost, by `experiment/bucket`."""

    def retire(self, before_ms: int, folder: str | Path | None) -> dict[str, int]:
        """Export rows older than a time to Parquet (unless `folder` is None), then delete them; rows by table."""

    def log(
        self,
        *,
        experiment: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        tasks: Sequence[str] | None = None,
    ) -> LoggedDataset:
        """Impressions with scores, weights, bucket and labels for the offline tools; see `experiment.store.log.read_log`."""

    def close(self) -> None:
        """Let the database go. Further calls raise StoreError."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked rows of one table, unique within the batch, with the key of each row's unit `[n]`."""

    spec: TableSpec
    rows: pa.Table
    unit_keys: Ints
    n_repeated: int

    def drop(self, stored: AnyArray) -> Batch:
        """Without the rows whose unit is stored already."""
        if not stored.any():
            return self
        keep = ~stored
        return Batch(self.spec, self.rows.filter(pa.array(keep)), self.unit_keys[keep], self.n_repeated + int(stored.sum()))


def prepare(tables: Mapping[str, pa.Table | None]) -> list[Batch]:
    """Check, key and deduplicate the rows of one append."""
    return [_prepare(TABLES[name], table) for name, table in tables.items() if table is not None and table.num_rows]


def quote(text: str) -> str:
    """A text as an SQL literal.

    >>> quote("it's")
    "'it''s'"
    """
    if "\0" in text:
        raise DataError(f"text {text!r} holds a zero character, which databases refuse")
    return "'" + text.replace("'", "''") + "'"


def _prepare(spec: TableSpec, table: pa.Table) -> Batch:
    if not table.schema.equals(spec.schema):
        table = _conform(spec, table)
    for name in spec.required:
        if table.column(name).null_count:
            raise DataError(f"{spec.name}: column {name!r} has a missing value; every row needs one")
    keyed = {column: keys64(table.column(column)) for column in dict.fromkeys(spec.keys.values())}
    for key, column in spec.keys.items():
        table = table.append_column(key, pa.array(keyed[column]))
    unit_keys = keyed[spec.unit]
    first = _first_rows(spec, table, unit_keys)
    if first is None:
        return Batch(spec, table, unit_keys, 0)
    return Batch(spec, table.take(pa.array(first)), unit_keys[first], table.num_rows - len(first))


def _conform(spec: TableSpec, table: pa.Table) -> pa.Table:
    columns = []
    for wanted in spec.schema:
        if wanted.name not in table.column_names:
            if wanted.name in spec.required:
                raise DataError(f"{spec.name}: column {wanted.name!r} is missing; columns are {', '.join(spec.schema.names)}")
            columns.append(pa.nulls(table.num_rows, wanted.type))
            continue
        try:
            columns.append(table.column(wanted.name).cast(wanted.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            kind = table.schema.field(wanted.name).type
            raise DataError(f"{spec.name}: column {wanted.name!r} is {kind} and does not fit {wanted.type}: {error}") from error
    unknown = sorted(set(table.column_names) - set(spec.schema.names))
    if unknown:
        raise DataError(f"{spec.name}: unknown column {unknown[0]!r}; columns are {', '.join(spec.schema.names)}")
    return pa.table(columns, schema=spec.schema)


def _first_rows(spec: TableSpec, table: pa.Table, unit_keys: Ints) -> Ints | None:
    """Rows that appear first among equal ones; None when all differ. Keys find candidates, values decide."""
    if not spec.within and len(np.unique(unit_keys)) == len(unit_keys):
        return None
    identity = [spec.unit, *spec.within]
    seen: set[tuple[Any, ...]] = set()
    first = []
    for row, values in enumerate(zip(*(table.column(name).to_pylist() for name in identity), strict=True)):
        if values not in seen:
            seen.add(values)
            first.append(row)
    return None if len(first) == len(unit_keys) else np.array(first, np.int64)


def delete_order() -> Sequence[str]:
    """Tables in the order in which old rows go: answers first, requests last."""
    return ("feedback", "exposures", "assignments", "requests")
