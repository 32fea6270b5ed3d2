"""Group commit: many callers, one writing thread, one transaction for all that waits; answered once it is on disk."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import pyarrow as pa

from core.errors import DataError, RequestError
from experiment.store.interface import TABLES, Appended, EventStore, prepare

Tables = Mapping[str, pa.Table]


@dataclass
class _Submission:
    tables: dict[str, pa.Table]
    n_rows: int
    future: Future[Appended] = field(default_factory=Future)


class Committer:
    """A bounded queue in front of an event store.

    Feedback is never dropped: when the queue is full the caller gets status 429 and sends it again. Exposures wait for room up
    to a deadline; after that their loss is counted by bucket in the store, which blocks any verdict above one in a thousand.

    Args:
        max_rows: Rows that may wait.
        max_batch: Rows in one transaction.
        deadline_s: How long exposures wait for room.
        clock_ms: The time losses are counted at.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        max_rows: int = 100_000,
        max_batch: int = 20_000,
        deadline_s: float = 2.0,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._max_rows, self._max_batch, self._deadline_s, self._clock_ms = max_rows, max_batch, deadline_s, clock_ms
        self._queue: collections.deque[_Submission] = collections.deque()
        self._waiting = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="event-store-writer", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Rows that wait."""
        return self._waiting

    def feedback(self, rows: pa.Table) -> Future[Appended]:
        """Queue feedback; the future is done once it is committed.

        Raises:
            RequestError: The queue is full (429) or shuts down (503); send it again later.
            DataError: The rows are wrong; nothing was queued.
        """
        submission = _checked({"feedback": rows})
        with self._changed:
            if self._closing:
                raise RequestError("the event store is shutting down; send the feedback again", field="feedback", status=503)
            if self._waiting and self._waiting + submission.n_rows > self._max_rows:
                raise RequestError("the event store is busy; send the feedback again in a second", field="feedback", status=429)
            self._put(submission)
        return submission.future

    def impressions(self, tables: Tables) -> Future[Appended] | None:
        """Queue requests, assignments and exposures; waits for room, then counts a loss and returns None.

        Raises:
            DataError: The rows are wrong; nothing was queued.
        """
        submission = _checked(tables)
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._closing or not self._waiting or self._waiting + submission.n_rows <= self._max_rows,
                timeout=self._deadline_s,
            )
            if room and not self._closing:
                self._put(submission)
                return submission.future
        self._count_loss(tables)
        return None

    def close(self, timeout_s: float = 30.0) -> None:
        """Commit what waits, then stop. The store stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _put(self, submission: _Submission) -> None:
        self._queue.append(submission)
        self._waiting += submission.n_rows
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                group = [self._queue.popleft()]
                n = group[0].n_rows
                while self._queue and n + self._queue[0].n_rows <= self._max_batch:
                    group.append(self._queue.popleft())
                    n += group[-1].n_rows
            self._commit(group)
            with self._changed:
                self._waiting -= n
                self._changed.notify_all()

    def _commit(self, group: Sequence[_Submission]) -> None:
        try:
            names = [name for name in TABLES if any(name in submission.tables for submission in group)]
            merged = {name: pa.concat_tables([s.tables[name] for s in group if name in s.tables]) for name in names}
            done = self._store.append(**merged)
        except Exception as error:  # whatever the store raises goes to the callers of this group
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for submission in group:  # one bad batch must not take the others with it
                self._commit([submission])
            return
        for submission in group:
            submission.future.set_result(done)

    def _count_loss(self, tables: Tables) -> None:
        assigned, shown = tables.get("assignments"), tables.get("exposures")
        if assigned is None or not assigned.num_rows:
            return
        per_request = collections.Counter(shown.column("request_id").to_pylist()) if shown is not None else collections.Counter()
        lost: collections.Counter[str] = collections.Counter()
        for row in assigned.select(["request_id", "experiment", "bucket"]).to_pylist():
            lost[f"{row['experiment']}/{row['bucket']}"] += per_request[row["request_id"]] if shown is not None else 1
        for bucket, n in lost.items():
            self._store.record_loss("exposures", bucket, n, time_ms=self._clock_ms())


def _checked(tables: Tables) -> _Submission:
    """Conform at the door, so that one caller's mistake is that caller's error and merged tables have one schema."""
    unknown = sorted(set(tables) - set(TABLES))
    if unknown:
        raise DataError(f"unknown event table {unknown[0]!r}; tables are {', '.join(TABLES)}")
    batches = prepare(tables)
    conformed = {batch.spec.name: batch.rows.select(batch.spec.schema.names) for batch in batches}
    return _Submission(conformed, sum(table.num_rows for table in conformed.values()))
