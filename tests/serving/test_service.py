"""One replica's service: exposures leave in batches and survive an absent store, feedback is answered after its commit only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.errors import DataError, RequestError, StoreError
from core.events import FEEDBACK_SCHEMA, Request
from serving.engine import Engine
from serving.outbox import Outbox
from serving.release import Release
from serving.service import Busy, Service, Unavailable
from serving.writer import Full
from tests.serving.fakes import By, MemoryWriter, release


def make(writer: MemoryWriter, **more: Any) -> Service:
    return Service(Engine(release()), writer, flush_s=0.01, **more)


def events(*ids: str) -> pa.Table:
    rows = [{"event_id": i, "request_id": "r", "item_id": 1, "task": "click", "value": 1.0, "time_ms": 0} for i in ids]
    return pa.Table.from_pylist(rows, schema=FEEDBACK_SCHEMA)


def ask(request_id: str = "r") -> Request:
    return Request(request_id, "u", np.array([5, 900]))


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]  # every work here is a coroutine function


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another task or thread does; a busy machine may take its time."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


def test_feedback_is_answered_after_the_commit() -> None:
    async def work() -> None:
        writer = MemoryWriter(delay_s=0.05)
        service = make(writer)
        call = asyncio.create_task(service.feedback(events("a", "b")))
        await asyncio.sleep(0.01)
        assert not call.done()
        assert writer.tables == []
        assert await call == 2
        assert [row["event_id"] for row in writer.rows("feedback")] == ["a", "b"]

    run(work)


def test_feedback_that_arrives_during_a_commit_goes_together_in_the_next() -> None:
    async def work() -> None:
        writer = MemoryWriter(delay_s=0.05)
        service = make(writer)
        await asyncio.gather(*(service.feedback(events(str(i))) for i in range(30)))
        assert len(writer.tables) <= 2
        assert len(writer.rows("feedback")) == 30

    run(work)


def test_feedback_waits_for_a_writer_that_comes_back() -> None:
    async def work() -> None:
        writer = MemoryWriter(away=ConnectionError())
        service = make(writer)
        call = asyncio.create_task(service.feedback(events("a")))
        await asyncio.sleep(0.1)
        assert (call.done(), service.writer_up) == (False, False)
        writer.away = None
        assert await call == 1
        assert service.writer_up

    run(work)


def test_feedback_gives_up_with_503_and_is_never_half_acknowledged() -> None:
    async def work() -> None:
        writer = MemoryWriter(away=ConnectionError())
        service = make(writer, feedback_timeout_s=0.5)
        with pytest.raises(Unavailable):
            await service.feedback(events("a"))
        writer.away = None
        assert await service.feedback(events("a")) == 1

    run(work)


@pytest.mark.parametrize(("error", "status"), [(Full("full"), 429), (StoreError("gone"), 503), (DataError("bad"), 503)])
def test_a_refusal_of_the_store_has_its_status(error: Exception, status: int) -> None:
    async def work() -> None:
        with pytest.raises(RequestError) as refused:
            await make(MemoryWriter(away=error)).feedback(events("a"))
        assert refused.value.status == status

    run(work)


def test_too_much_waiting_feedback_is_refused() -> None:
    async def work() -> None:
        service = make(MemoryWriter(delay_s=1.0), feedback_rows_max=2)
        call = asyncio.create_task(service.feedback(events("a", "b")))
        await asyncio.sleep(0.01)
        with pytest.raises(Busy):
            await service.feedback(events("c"))
        assert await call == 2

    run(work)


def test_exposures_leave_behind_the_answer_and_stay_until_committed() -> None:
    async def work() -> None:
        writer = MemoryWriter(away=ConnectionError())
        service = make(writer)
        service.rank(ask("r1"))
        await service.start()
        await asyncio.sleep(0.05)
        assert writer.tables == []
        service.rank(ask("r2"))
        writer.away = None
        await service.stop()
        assert sorted({row["request_id"] for row in writer.rows("exposures")}) == ["r1", "r2"]
        assert len(writer.rows("requests")) == 2

    run(work)


def test_a_draining_service_refuses_new_work_and_reports_when_it_holds_nothing() -> None:
    class Draining(MemoryWriter):
        reported: list[bool] = []  # noqa: RUF012  # a test's own class

        async def report(self, replica: str, snapshot: Any, drained: bool) -> Any:
            self.reported.append(drained)
            return {"snapshots": [snapshot], "draining": True, "reload_ms": 0}

    async def work() -> None:
        writer = Draining()
        service = make(writer)
        service.rank(ask())
        await service.start()
        await until(lambda: bool(writer.reported) and writer.reported[-1])
        assert len(writer.rows("requests")) == 1
        with pytest.raises(Unavailable):
            service.rank(ask())
        with pytest.raises(Unavailable):
            await service.feedback(events("a"))
        await service.stop()

    run(work)


def test_losses_reach_the_store() -> None:
    async def work() -> None:
        writer = MemoryWriter()
        service = make(writer, outbox=Outbox(1, 0.0, lambda: 0.5))
        for i in range(3):
            service.rank(ask(str(i)))
        await service.flush()
        assert writer.lost == [{"none": 4}]
        await service.flush()
        assert writer.lost == [{"none": 4}]

    run(work)


def test_stopping_in_the_middle_of_a_flush_loses_nothing() -> None:
    async def work() -> None:
        writer = MemoryWriter()
        service = make(writer)
        for i in range(200):
            service.rank(ask(f"r{i}"))
        flush = asyncio.create_task(service.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flush.cancel()
        await service.stop()
        assert sorted(row["request_id"] for row in writer.rows("requests")) == sorted(f"r{i}" for i in range(200))

    run(work)


def test_a_reload_swaps_the_release_beside_running_requests_and_a_broken_one_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from serving import service as module

    monkeypatch.setattr(module, "REPORT_S", 0.01)
    loads: list[str] = []

    def load() -> Release:
        loads.append("asked")
        if len(loads) == 2:
            raise DataError("damaged")
        return release(by_click=By("like"))

    async def work() -> None:
        writer = MemoryWriter()
        service = make(writer, load=load)
        assert service.rank(ask()).slate.items.tolist() == [900, 5]
        await service.start()
        await asyncio.sleep(0.1)
        assert loads == []  # what has just started has just loaded

        def outcomes() -> dict[str, float]:
            return {labels[0][1]: n for name, labels, n in service.snapshot()["counters"] if name == "reloads_total"}

        await writer.ask_reload(7)
        await until(lambda: outcomes() == {"done": 1})
        await writer.ask_reload(8)
        await until(lambda: outcomes() == {"done": 1, "refused": 1})
        await asyncio.sleep(0.1)
        assert len(loads) == 2  # each was asked for once, however often replicas report
        assert service.rank(ask()).slate.items.tolist() == [5, 900]
        await service.stop()

    run(work)
