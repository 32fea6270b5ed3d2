"""The embedded event store: one DuckDB file, one writing process, every append one committed transaction."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from core.arrays import AnyArray, Bools
from core.errors import StoreError
from core.logs import LoggedDataset
from experiment.store.export import finish_export, start_export
from experiment.store.interface import TABLES, Appended, Batch, delete_order, prepare, quote
from experiment.store.keyset import KeySet
from experiment.store.log import read_log
from experiment.store.migrate import VERSION, migrate


class DuckDBStore:
    """An event store in one file.

    Exactly once without an index: the keys of what is stored live in memory (16 bytes each, read back at start); a key
    that is known there is confirmed in the table, so a collision of keys never loses an event.

    Raises:
        StoreError: The file is held by another process, is not a DuckDB file, or is absent and `read_only`.
    """

    dialect = "duckdb"

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self.url = f"duckdb://{path}"
        self.read_only = read_only
        self._lock = threading.Lock()
        memory = path in ("", ":memory:")
        if not memory and read_only and not Path(path).is_file():
            raise StoreError(f"no event store at {path!r}; start the service or give another --store")
        if not memory and not read_only:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = duckdb.connect(":memory:" if memory else path, read_only=read_only and not memory)
            self._known = self._open()
        except duckdb.Error as error:
            raise StoreError(_explain(path, error)) from error

    def _open(self) -> dict[str, KeySet]:
        found = self._db.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'schema_version'").fetchall()
        version = self._db.execute("SELECT version FROM schema_version").fetchall()[0][0] if found[0][0] else 0
        if version != VERSION:
            if self.read_only:
                raise StoreError(
                    f"{self.url} has schema version {version}, not {VERSION}; open it once for writing to migrate it"
                )
            with self._transaction():
                migrate(self.dialect, version, lambda sql: _run(self._db, sql))
        known = {}
        for name, spec in TABLES.items():
            known[name] = KeySet()
            if not self.read_only:
                rows = self._db.execute(f"SELECT DISTINCT {spec.unit_key} AS key FROM {name}").fetchnumpy()
                known[name].add(np.asarray(rows["key"], np.int64))
        return known

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
        with self._writing():
            fresh = [batch.drop(self._stored(batch)) for batch in batches]
            with self._transaction():
                for batch in fresh:
                    if batch.rows.num_rows:
                        self._db.register("_batch", batch.rows)
                        self._db.execute(f"INSERT INTO {batch.spec.name} BY NAME SELECT * FROM _batch")
                        self._db.unregister("_batch")
            for batch in fresh:
                self._known[batch.spec.name].add(batch.unit_keys)
        return Appended(
            {batch.spec.name: batch.rows.num_rows for batch in fresh}, {batch.spec.name: batch.n_repeated for batch in fresh}
        )

    def _stored(self, batch: Batch) -> Bools:
        """Which rows belong to a unit that is in the table."""
        hit = self._known[batch.spec.name].has(batch.unit_keys)
        if not hit.any():
            return hit
        keys = ", ".join(map(str, np.unique(batch.unit_keys[hit]).tolist()))
        unit, spec = batch.spec.unit, batch.spec
        rows = self._db.execute(f"SELECT DISTINCT {unit} FROM {spec.name} WHERE {spec.unit_key} IN ({keys})").fetchall()
        stored = {row[0] for row in rows}
        return np.array([value in stored for value in batch.rows.column(unit).to_pylist()], bool)

    def select(self, sql: str) -> dict[str, AnyArray]:
        """The columns of a query as numpy arrays; a snapshot, beside any writing."""
        with self._reading() as cursor:
            return {name: np.asarray(column) for name, column in cursor.execute(sql).fetchnumpy().items()}

    def arrow(self, sql: str) -> pa.Table:
        """The result of a query as an Arrow table."""
        with self._reading() as cursor:
            return cursor.execute(sql).to_arrow_table()

    def record_plan(self, version: int, plan: str, *, who: str, time_ms: int, note: str = "") -> None:
        """Keep a plan's JSON text in the history."""
        with self._writing(), self._transaction():
            self._db.execute("INSERT INTO plans VALUES (?, ?, ?, ?, ?)", [version, time_ms, who, note, plan])

    def plans(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        rows: list[dict[str, Any]] = self.arrow("SELECT * FROM plans ORDER BY time_ms, version").to_pylist()
        return rows

    def record_loss(self, table: str, bucket: str, n: int, *, time_ms: int) -> None:
        """Keep that `n` rows could not be stored for a bucket."""
        with self._writing(), self._transaction():
            self._db.execute("INSERT INTO losses VALUES (?, ?, ?, ?)", [table, bucket, n, time_ms])

    def losses(self) -> dict[str, int]:
        """Rows lost, by `experiment/bucket`."""
        rows = self.arrow("SELECT bucket, sum(n)::BIGINT AS n FROM losses GROUP BY bucket").to_pylist()
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
        """Export rows older than `before_ms` to `folder/until_<before_ms>/<table>.parquet`, then delete them.

        A kill in between leaves rows in both places and the next call exports them once more; rows carry their ids. A retry of an
        event that was deleted is known as a retry until the store is opened again.
        """
        moved = {}
        with self._writing():
            partial = start_export(folder, before_ms)
            for name in delete_order():
                if partial is not None:
                    target = quote(str(partial / f"{name}.parquet"))
                    query = f"SELECT * FROM {name} WHERE time_ms < {int(before_ms)} ORDER BY time_ms"
                    self._db.execute(f"COPY ({query}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
            with self._transaction():
                for name in delete_order():
                    done = self._db.execute(f"DELETE FROM {name} WHERE time_ms < {int(before_ms)}").fetchall()
                    moved[name] = int(done[0][0])
                finish_export(partial, empty=not any(moved.values()))
            self._db.execute("CHECKPOINT")
        return moved

    def close(self) -> None:
        """Checkpoint and let the file go."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self.read_only:
            raise StoreError(f"{self.url} was opened read-only; open it for writing")
        with self._lock:
            try:
                yield
            except duckdb.Error as error:
                raise StoreError(f"{self.url}: {' '.join(str(error).split())}") from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with self._lock:
                cursor = self._db.cursor()
            with contextlib.closing(cursor):
                yield cursor
        except duckdb.Error as error:
            raise StoreError(f"{self.url}: {' '.join(str(error).split())}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(duckdb.Error):
                self._db.execute("ROLLBACK")
            raise


def _run(db: duckdb.DuckDBPyConnection, sql: str) -> None:
    db.execute(sql)


def _explain(path: str, error: duckdb.Error) -> str:
    text = " ".join(str(error).split())
    if "lock" in text.lower():
        return (
            f"event store {path!r} is held by another process; only one may open a DuckDB file: stop it, ask the "
            "running service instead, or use postgresql://"
        )
    return f"event store {path!r} cannot be opened: {text}"
