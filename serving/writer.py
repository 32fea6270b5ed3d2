"""The writer: one thread in front of one event store; callers wait in a bounded queue and are committed together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from core.errors import StoreError

T = TypeVar("T")
Tables = Mapping[str, pa.Table]  # by the store's names: requests, assignments, exposures, feedback


class Store(Protocol):
    """What the writer asks of an event store. One thread calls it."""

    def append(
        self,
        *,
        requests: pa.Table | None = None,
        assignments: pa.Table | None = None,
        exposures: pa.Table | None = None,
        feedback: pa.Table | None = None,
    ) -> Any:
        """Commit the tables together; idempotent by event_id (feedback) and request_id (the others)."""

    def close(self) -> None:
        """Release the store."""


class Full(StoreError):
    """The writer's queue is full: come back later."""


class Writer:
    """Group commit: while one commit runs, the next callers gather, and all of them are committed at once.

    A call's future ends after its rows are durable, or with the store's error. Reads (`read`) run between commits in
    the same thread, so they see everything committed before them.

    Args:
        store: Opened by this thread, `Callable` so that the store lives in the thread that uses it.
        rows_max: Rows that may wait.
        group_max: Calls committed at once.
    """

    def __init__(self, store: Callable[[], Store], *, rows_max: int = 500_000, group_max: int = 512) -> None:
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._rows_max = rows_max
        self._group_max = group_max
        self._rows = 0
        self._lock = threading.Lock()
        self._closed = False
        self.n_commits = 0
        self.n_rows = 0
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(store, opened), name="event-store-writer", daemon=True)
        self._thread.start()
        opened.result()

    @property
    def waiting_rows(self) -> int:
        """Rows not yet committed."""
        return self._rows

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def append(self, tables: Tables) -> Future[Any]:
        """Queue tables for the next commit.

        Raises:
            Full: Too many rows wait already; nothing was queued.
            StoreError: The writer is closed.
        """
        rows = sum(table.num_rows for table in tables.values())
        with self._lock:
            if self._closed:
                raise StoreError("the event store's writer is closed; it takes no more events")
            if self._rows and self._rows + rows > self._rows_max:
                raise Full(f"{self._rows} rows wait for the event store, at most {self._rows_max} may; retry later")
            self._rows += rows
            job = _Append(tables, rows)
            self._queue.put(job)
        return job.done

    def read(self, work: Callable[[Any], T]) -> Future[T]:
        """Run `work(store)` in the writer's thread, after everything queued before it."""
        job = _Read(work)
        with self._lock:
            if self._closed:
                raise StoreError("the event store's writer is closed; nothing can be read")
            self._queue.put(job)
        return job.done

    def close(self) -> None:
        """Commit what waits, close the store, end the thread. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self, open_store: Callable[[], Store], opened: Future[None]) -> None:
        try:
            store = open_store()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        job: _Job | None = self._queue.get()
        while job is not None:
            group: list[_Append] = []
            while isinstance(job, _Append):
                group.append(job)
                if len(group) >= self._group_max or self._queue.empty():
                    job = _WAIT
                    break
                job = self._queue.get()
            if group:
                self._commit(store, group)
            if isinstance(job, _Read):
                job.run(store)
                job = _WAIT
            if job is _WAIT:
                job = self._queue.get()
        store.close()

    def _commit(self, store: Store, group: Sequence[_Append]) -> None:
        names = {name for job in group for name in job.tables}
        try:
            store.append(**{name: pa.concat_tables([j.tables[name] for j in group if name in j.tables]) for name in names})
        except Exception as error:  # a single caller gets it through its future
            if len(group) > 1:  # one caller's bad rows must not fail the others
                for job in group:
                    self._commit(store, [job])
                return
            self._settle(group, error)
            return
        self.n_commits += 1
        self.n_rows += sum(job.rows for job in group)
        self._settle(group, None)

    def _settle(self, group: Sequence[_Append], error: Exception | None) -> None:
        with self._lock:
            self._rows -= sum(job.rows for job in group)
        for job in group:
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)


def open_when_free(open_store: Callable[[], Store], *, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> Store:
    """Open a store whose last writer may have just died: its lock goes away with the process, so a refusal is retried a while."""
    waited = 0.0
    while True:
        try:
            return open_store()
        except StoreError:
            if waited >= wait_s:
                raise
            sleep(0.2)
            waited += 0.2


class _Job:
    pass


class _Append(_Job):
    def __init__(self, tables: Tables, rows: int) -> None:
        self.tables = tables
        self.rows = rows
        self.done: Future[Any] = Future()


class _Read(_Job):
    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work
        self.done: Future[Any] = Future()

    def run(self, store: Any) -> None:
        try:
            self.done.set_result(self.work(store))
        except Exception as error:  # handed to who asked
            self.done.set_exception(error)


_WAIT = _Job()
