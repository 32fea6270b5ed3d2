"""Group commit: everybody is answered after the commit, together, and one caller's bad rows fail nobody else."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest

from core.errors import DataError, StoreError
from serving.writer import Full, Writer, open_when_free


class Slow:
    """Commits only while `go` is set; refuses rows whose task is `bad`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.commits: list[list[str]] = []
        self.closed = False

    def append(self, *, feedback: pa.Table | None = None, **other: Any) -> None:
        assert self.go.wait(10)
        assert feedback is not None
        tasks = feedback.column("task").to_pylist()
        if "bad" in tasks:
            raise DataError("bad task")
        self.commits.append(tasks)

    def close(self) -> None:
        self.closed = True


def rows(*tasks: str) -> dict[str, pa.Table]:
    return {"feedback": pa.table({"task": list(tasks)})}


def test_callers_that_wait_are_committed_together() -> None:
    store = Slow()
    writer = Writer(lambda: store)
    first = writer.append(rows("a"))
    while writer.waiting_rows and not store.commits and not first.done():
        store.go.set()
    first.result(5)
    store.go.clear()
    held = writer.append(rows("b"))
    others = [writer.append(rows(str(i))) for i in range(20)]
    store.go.set()
    for done in (held, *others):
        done.result(5)
    assert sorted(t for commit in store.commits for t in commit) == sorted(["a", "b", *map(str, range(20))])
    assert len(store.commits) <= 4
    assert writer.waiting_rows == 0
    writer.close()
    assert store.closed


def test_one_callers_bad_rows_fail_nobody_else() -> None:
    store = Slow()
    writer = Writer(lambda: store)
    calls = [writer.append(rows(task)) for task in ("a", "bad", "c")]
    store.go.set()
    calls[0].result(5)
    calls[2].result(5)
    with pytest.raises(DataError):
        calls[1].result(5)
    assert sorted(t for commit in store.commits for t in commit) == ["a", "c"]
    writer.close()


def test_a_full_queue_refuses_at_once() -> None:
    store = Slow()
    writer = Writer(lambda: store, rows_max=2)
    waiting = [writer.append(rows("a")), writer.append(rows("b"))]
    with pytest.raises(Full):
        writer.append(rows("c"))
    store.go.set()
    for done in waiting:
        done.result(5)
    writer.append(rows("c")).result(5)
    writer.close()


def test_closing_commits_what_waits_and_then_refuses() -> None:
    store = Slow()
    store.go.set()
    writer = Writer(lambda: store)
    last = writer.append(rows("a", "b"))
    writer.close()
    assert last.result(0) is None
    with pytest.raises(StoreError):
        writer.append(rows("c"))
    writer.close()


def test_a_read_sees_everything_before_it() -> None:
    store = Slow()
    store.go.set()
    writer = Writer(lambda: store)
    writer.append(rows("a"))
    assert writer.read(lambda s: list(s.commits)).result(5) == [["a"]]
    with pytest.raises(ZeroDivisionError):
        writer.read(lambda s: 1 // 0).result(5)
    assert writer.alive
    writer.close()


def test_a_store_that_cannot_be_opened_says_so_at_once() -> None:
    def refuses() -> Slow:
        raise StoreError("held by another process")

    with pytest.raises(StoreError, match="held"):
        Writer(refuses)


def test_a_lock_of_a_dying_process_is_waited_for_a_while() -> None:
    tries = []
    naps: list[float] = []

    def opens() -> Slow:
        tries.append(1)
        if len(tries) < 4:
            raise StoreError("held by another process")
        return Slow()

    open_when_free(opens, wait_s=10, sleep=naps.append)
    assert len(naps) == 3
    tries.clear()
    with pytest.raises(StoreError):
        open_when_free(opens, wait_s=0.3, sleep=naps.append)
