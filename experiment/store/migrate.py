"""The store's schema as numbered steps; a database of an older version is brought forward, a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from core.errors import StoreError
from experiment.store.interface import TABLES

TYPES: Mapping[str, Mapping[pa.DataType, str]] = {
    "duckdb": {
        pa.string(): "VARCHAR",
        pa.int64(): "BIGINT",
        pa.int32(): "INTEGER",
        pa.float64(): "DOUBLE",
        pa.bool_(): "BOOLEAN",
        pa.binary(): "BLOB",
        pa.list_(pa.string()): "VARCHAR[]",
        pa.list_(pa.float64()): "DOUBLE[]",
        pa.list_(pa.float32()): "FLOAT[]",
    },
    "postgresql": {
        pa.string(): "TEXT",
        pa.int64(): "BIGINT",
        pa.int32(): "INTEGER",
        pa.float64(): "DOUBLE PRECISION",
        pa.bool_(): "BOOLEAN",
        pa.binary(): "BYTEA",
        pa.list_(pa.string()): "TEXT[]",
        pa.list_(pa.float64()): "DOUBLE PRECISION[]",
        pa.list_(pa.float32()): "REAL[]",
    },
}
_UNIQUE: Mapping[str, str] = {
    "requests": "request_id",
    "assignments": "request_id, layer, experiment",
    "exposures": "request_id, item_id",
    "feedback": "event_id",
}


_ADDED = ("session", "step", "state", "action", "baseline", "component", "component_density", "box")  # version 3's, of requests


def _events(dialect: str) -> list[str]:
    """Version 1: the four event tables, the plan history, the losses."""
    types = TYPES[dialect]
    statements = []
    for name, spec in TABLES.items():
        old = [field for field in spec.stored if not (name == "requests" and field.name in _ADDED)]
        columns = ", ".join(f"{field.name} {types[field.type]}" for field in old)
        # DuckDB's indexes slow every commit, so its store keeps the known keys in memory; PostgreSQL has several writers
        unique = f", UNIQUE ({_UNIQUE[name]})" if dialect == "postgresql" else ""
        statements.append(f"CREATE TABLE {name} ({columns}{unique})")
    real, text = types[pa.int64()], types[pa.string()]
    statements.append(f"CREATE TABLE plans (version {real}, time_ms {real}, who {text}, note {text}, plan {text})")
    statements.append(f"CREATE TABLE losses (event_table {text}, bucket {text}, n {real}, time_ms {real})")
    return statements


def _indexes(dialect: str) -> list[str]:
    """Version 2: what PostgreSQL needs to read one experiment without the others; DuckDB scans columns instead."""
    if dialect != "postgresql":
        return []
    return [
        "CREATE INDEX assignments_by_experiment ON assignments (experiment, unit_key)",
        "CREATE INDEX feedback_by_request ON feedback (request_key)",
        "CREATE INDEX requests_by_key ON requests (request_key)",
    ]


def _decisions(dialect: str) -> list[str]:
    """Version 3: the caller's session and page, and what a policy saw and did."""
    types = TYPES[dialect]
    kinds = {field.name: types[field.type] for field in TABLES["requests"].schema}
    return [f"ALTER TABLE requests ADD COLUMN IF NOT EXISTS {name} {kinds[name]}" for name in _ADDED]


STEPS: Sequence[Callable[[str], list[str]]] = (_events, _indexes, _decisions)
VERSION = len(STEPS)


def migrate(dialect: str, version: int, run: Callable[[str], None]) -> int:
    """Bring a database from `version` (0: empty) to the newest, inside the caller's transaction.

    Returns:
        The number of steps taken.

    Raises:
        StoreError: The database was written by a newer scorefusion.
    """
    if version > VERSION:
        raise StoreError(f"the event store has schema version {version}, this scorefusion knows {VERSION}; upgrade scorefusion")
    for number in range(version, VERSION):
        for statement in STEPS[number](dialect):
            run(statement)
    if version < VERSION:
        run("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT)")
        run("DELETE FROM schema_version")
        run(f"INSERT INTO schema_version VALUES ({VERSION})")
    return VERSION - version
