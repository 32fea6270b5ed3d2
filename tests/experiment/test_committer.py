"""Group commit: everything is acknowledged once stored, one bad batch fails alone, the queue's policy is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from core.errors import DataError, RequestError, StoreError
from experiment.checks import count, feedback_rows, impression_rows
from experiment.store import Appended, Committer, EventStore
from experiment.store.duckdb import DuckDBStore


class Slow(DuckDBStore):
    """A store that waits for permission and can be told to fail on an event."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.go = threading.Event()
        self.calls = 0

    def append(self, **tables: pa.Table | None) -> Appended:
        self.go.wait(10)
        self.calls += 1
        feedback = tables.get("feedback")
        if feedback is not None and "bad" in feedback.column("event_id").to_pylist():
            raise StoreError("refused")
        return super().append(**tables)


@pytest.fixture
def slow() -> Iterator[Slow]:
    store = Slow()
    yield store
    store.go.set()
    store.close()


def test_many_callers_share_few_commits_and_all_is_stored_once(store: EventStore) -> None:
    committer = Committer(store)
    with ThreadPoolExecutor(8) as pool:
        ids = [[f"e{i}-{j}" for j in range(5)] for i in range(200)] * 2  # every batch twice
        futures = list(pool.map(lambda batch: committer.feedback(feedback_rows(batch)), ids))
    for future in futures:
        future.result(timeout=30)
    committer.close()
    assert count(store, "feedback") == 1000


def test_waiting_batches_become_one_transaction_and_a_bad_one_fails_alone(slow: Slow) -> None:
    committer = Committer(slow)
    futures = {name: committer.feedback(feedback_rows([name])) for name in ("first", "good", "bad", "fine")}
    slow.go.set()
    assert futures["good"].result(10).new
    assert futures["fine"].result(10).new
    with pytest.raises(StoreError, match="refused"):
        futures["bad"].result(10)
    committer.close()
    assert count(slow, "feedback") == 3
    assert slow.calls == 5  # first; good + bad + fine together; then each alone


def test_full_queue_pushes_feedback_back_and_counts_lost_exposures(slow: Slow) -> None:
    committer = Committer(slow, max_rows=10, deadline_s=0.05, clock_ms=lambda: 5)
    accepted = committer.feedback(feedback_rows([f"e{i}" for i in range(10)]))
    with pytest.raises(RequestError) as caught:
        committer.feedback(feedback_rows(["late"]))
    assert caught.value.status == 429
    assert committer.impressions(impression_rows(["r1", "r2"])) is None
    slow.go.set()
    accepted.result(10)
    assert slow.losses() == {"searched/a": 3, "searched/b": 3}
    later = committer.impressions(impression_rows(["r1", "r2"]))
    assert later is not None
    assert later.result(10).new["exposures"] == 6
    committer.close()


def test_closing_commits_what_waits_and_refuses_more(slow: Slow) -> None:
    committer = Committer(slow)
    future = committer.feedback(feedback_rows(["a"]))
    threading.Timer(0.05, slow.go.set).start()
    committer.close()
    assert future.done()
    with pytest.raises(RequestError) as caught:
        committer.feedback(feedback_rows(["b"]))
    assert caught.value.status == 503


def test_wrong_rows_are_the_callers_error_at_the_door(store: EventStore) -> None:
    committer = Committer(store)
    with pytest.raises(DataError, match="'task' is missing"):
        committer.feedback(feedback_rows(["a"]).drop_columns(["task"]))
    with pytest.raises(DataError, match="unknown event table 'clicks'"):
        committer.impressions({"clicks": feedback_rows(["a"])})
    committer.close()
