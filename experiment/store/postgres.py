"""The event store for several writing nodes: PostgreSQL through ADBC, rows sent as Arrow by COPY."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.arrays import AnyArray
from core.errors import StoreError
from core.logs import LoggedDataset
from experiment.store.export import finish_export, start_export
from experiment.store.interface import TABLES, Appended, Batch, delete_order, prepare
from experiment.store.log import read_log
from experiment.store.migrate import migrate

_MIGRATION_LOCK = 7_239_514  # any number, the same for every scorefusion


class PostgresStore:
    """An event store that several processes and nodes may write at once.

    Rows are copied to a temporary table and moved on by one statement a table in one transaction; unique constraints make a
    retry harmless, whoever sends it. Reading has a connection of its own. A lost connection is made again at the next call.

    Raises:
        StoreError: The server does not answer, or its schema is newer than this scorefusion.
    """

    dialect = "postgresql"

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self.url = _without_password(url)
        self.read_only = read_only
        self._uri = url
        self._closed = False
        self._writer = _Link(url, self.url, staged=not read_only)
        self._reader = _Link(url, self.url, staged=False)
        with self._reader.transaction() as cursor:
            version = _version(cursor)
        if not read_only:
            with self._writer.transaction(stage=False) as cursor:
                cursor.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                cursor.fetchall()
                migrate(self.dialect, _version(cursor), cursor.execute)
        elif version == 0:
            raise StoreError(f"{self.url} holds no event store; start the service or give another --store")

    def append(
        self,
        *,
        requests: pa.Table | None = None,
        assignments: pa.Table | None = None,
        exposures: pa.Table | None = None,
        feedback: pa.Table | None = None,
    ) -> Appended:
        """See `EventStore.append`. Threads may call it; they wait for one another."""
        batches = prepare({"requests": requests, "assignments": assignments, "exposures": exposures, "feedback": feedback})
        self._check_writable()
        new, repeated = {}, {}
        with self._writer.transaction() as cursor:
            for batch in batches:
                name = batch.spec.name
                new[name] = _insert(cursor, batch)
                repeated[name] = batch.n_repeated + batch.rows.num_rows - new[name]
        return Appended(new, repeated)

    def select(self, sql: str) -> dict[str, AnyArray]:
        """The columns of a query as numpy arrays."""
        table = self.arrow(sql)
        return {name: np.asarray(table.column(name).to_numpy()) for name in table.column_names}

    def arrow(self, sql: str) -> pa.Table:
        """The result of a query as an Arrow table."""
        with self._reader.transaction() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def record_plan(self, version: int, plan: str, *, who: str, time_ms: int, note: str = "") -> None:
        """Keep a plan's JSON text in the history."""
        self._check_writable()
        with self._writer.transaction() as cursor:
            cursor.execute("INSERT INTO plans VALUES ($1, $2, $3, $4, $5)", (version, time_ms, who, note, plan))

    def plans(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        rows: list[dict[str, Any]] = self.arrow("SELECT * FROM plans ORDER BY time_ms, version").to_pylist()
        return rows

    def record_loss(self, table: str, bucket: str, n: int, *, time_ms: int) -> None:
        """Keep that `n` rows could not be stored for a bucket."""
        self._check_writable()
        with self._writer.transaction() as cursor:
            cursor.execute("INSERT INTO losses VALUES ($1, $2, $3, $4)", (table, bucket, n, time_ms))

    def losses(self) -> dict[str, int]:
        """Rows lost, by `experiment/bucket`."""
        rows = self.arrow("SELECT bucket, CAST(sum(n) AS BIGINT) AS n FROM losses GROUP BY bucket").to_pylist()
        return {row["bucket"]: row["n"] for row in rows}

    def log(
        self,
        *,
        experiment: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
        tasks: Sequence[str] | None = None,
    ) -> LoggedDataset:
        """See `experiment.store.log.read_log`."""
        return read_log(self, experiment=experiment, since_ms=since_ms, until_ms=until_ms, tasks=tasks)

    def retire(self, before_ms: int, folder: str | Path | None) -> dict[str, int]:
        """Export rows older than `before_ms` to Parquet on this machine, then delete exactly those rows."""
        self._check_writable()
        moved = {}
        with self._writer.transaction() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            partial = start_export(folder, before_ms)
            for name in delete_order():
                where = f"FROM {name} WHERE time_ms < {int(before_ms)}"
                if partial is not None:
                    cursor.execute(f"SELECT * {where} ORDER BY time_ms")
                    pq.write_table(cursor.fetch_arrow_table(), partial / f"{name}.parquet", compression="zstd")
                moved[name] = _count(cursor, f"WITH gone AS (DELETE {where} RETURNING 1) SELECT count(*) FROM gone")
            finish_export(partial, empty=not any(moved.values()))
        return moved

    def close(self) -> None:
        """Close both connections."""
        self._closed = True
        self._writer.close()
        self._reader.close()

    def _check_writable(self) -> None:
        if self.read_only:
            raise StoreError(f"{self.url} was opened read-only; open it for writing")


class _Link:
    """One connection, made when needed and again after it broke."""

    def __init__(self, uri: str, shown: str, *, staged: bool) -> None:
        self._uri, self._shown, self._staged = uri, shown, staged
        self._lock = threading.Lock()
        self._connection: Any = None
        self._has_stage = False
        self._closed = False

    @contextlib.contextmanager
    def transaction(self, *, stage: bool = True) -> Iterator[Any]:
        """A cursor whose work is committed at the end, or undone as a whole."""
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._shown} was closed; open it again")
            try:
                if self._connection is None:
                    self._connection, self._has_stage = adbc.connect(self._uri), False
                with contextlib.closing(self._connection.cursor()) as cursor:
                    if stage and self._staged and not self._has_stage:
                        for name in TABLES:
                            cursor.execute(f"CREATE TEMPORARY TABLE stage_{name} (LIKE {name}) ON COMMIT DELETE ROWS")
                        self._connection.commit()
                        self._has_stage = True
                    yield cursor
                self._connection.commit()
            except BaseException as error:
                self._undo()
                if isinstance(error, adbc_driver_manager.Error):
                    raise StoreError(f"event store {self._shown}: {' '.join(str(error).split())}") from error
                raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _undo(self) -> None:
        try:
            if self._connection is not None:
                self._connection.rollback()
                with contextlib.closing(self._connection.cursor()) as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchall()
                self._connection.rollback()
        except adbc_driver_manager.Error:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(adbc_driver_manager.Error):
                self._connection.close()
        self._connection = None


def _insert(cursor: Any, batch: Batch) -> int:
    """Move one table's rows in; a unit that is there already is left out as a whole."""
    name, unit = batch.spec.name, batch.spec.unit
    cursor.adbc_ingest(f"stage_{name}", batch.rows, mode="append", temporary=True)
    columns = ", ".join(batch.rows.column_names)
    known = f"SELECT 1 FROM {name} t WHERE t.{unit} = s.{unit}"
    insert = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM stage_{name} s WHERE NOT EXISTS ({known})"
    n = _count(cursor, f"WITH added AS ({insert} ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM added")
    cursor.execute(f"TRUNCATE stage_{name}")
    return n


def _count(cursor: Any, sql: str) -> int:
    cursor.execute(sql)
    rows: Sequence[Sequence[int]] = cursor.fetchall()
    return int(rows[0][0])


def _version(cursor: Any) -> int:
    if not _count(cursor, "SELECT count(*) FROM pg_tables WHERE tablename = 'schema_version' AND schemaname = current_schema()"):
        return 0
    return _count(cursor, "SELECT version FROM schema_version")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))
