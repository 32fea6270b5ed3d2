"""The service: an engine with its log. Ranking is synchronous, exposures leave behind it, feedback waits for its commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from core.errors import RequestError, ScorefusionError
from core.events import Request
from serving.bodies import Limits
from serving.drift import DriftMonitor
from serving.engine import STAGES, Engine, Ranked
from serving.metrics import Metrics
from serving.outbox import Batch, Outbox
from serving.release import Release
from serving.writer import Full

log = logging.getLogger("scorefusion.serving")
RETRY_S = 0.25
REPORT_S = 1.0
ALARM_S = 60.0
DRAIN = 24


class EventWriter(Protocol):
    """The single writer of the event store, wherever it runs."""

    async def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Commit the tables; returns after they are durable. Idempotent, so a call without an answer is simply repeated."""

    async def lose(self, losses: Mapping[str, int]) -> None:
        """Record how many exposures were dropped, by `experiment/bucket`."""

    async def readout(self, experiment: str) -> dict[str, Any]:
        """The experiment's readout as JSON values."""

    async def report(self, replica: str, snapshot: Mapping[str, Any], drained: bool) -> Mapping[str, Any]:
        """Leave this replica's metrics; get `snapshots` of all replicas, whether we are `draining`, and the last `reload_ms`."""

    async def ask_reload(self, now_ms: int) -> None:
        """Have every replica load its artefacts again."""

    async def overview(self) -> dict[str, Any]:
        """What the store holds: counts for the first page."""


class Busy(RequestError):
    """A queue is full: the answer is 429 with Retry-After."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="body", status=429)


class Unavailable(RequestError):
    """Something the answer needs is not there: 503 with Retry-After."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="body", status=503)


class Service:
    """One replica's work, driven by one event loop.

    Args:
        engine: Ranks.
        writer: Takes events.
        limits: Of request bodies.
        outbox: Holds ranked requests until the next flush.
        plan: What assigns buckets, as JSON values and by `assignments`; None without a plan.
        load: Loads the release again, for `reload`; in a thread of its own.
        flush_s, feedback_timeout_s: Period of exposures; patience of feedback.
        feedback_rows_max: Events of this replica that may wait for their commit.
        replica: This replica's name in metrics.
        wall_ms: The time of day in milliseconds.
    """

    def __init__(
        self,
        engine: Engine,
        writer: EventWriter,
        *,
        limits: Limits | None = None,
        outbox: Outbox | None = None,
        plan: PlanView | None = None,
        info: Mapping[str, Any] | None = None,
        load: Callable[[], Release] | None = None,
        flush_s: float = 0.1,
        feedback_timeout_s: float = 15.0,
        feedback_rows_max: int = 50_000,
        replica: str = "local",
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.engine = engine
        self.writer = writer
        self.limits = limits or Limits()
        self.plan = plan
        self.info = dict(info or {})
        self._load = load
        self._reload_ms: int | None = None
        self._reloading: asyncio.Task[None] | None = None
        self.metrics = Metrics()
        self.wall_ms = wall_ms
        self._outbox = Outbox(20_000, 0.0, random.Random(0).random) if outbox is None else outbox
        self._flush_s = flush_s
        self._patience_s = feedback_timeout_s
        self._feedback_rows_max = feedback_rows_max
        self._replica = replica
        self._feedback: list[tuple[pa.Table, asyncio.Future[None]]] = []
        self._feedback_rows = 0
        self._sending: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._batch: Mapping[str, pa.Table] | None = None
        self._parts: list[Batch] = []
        self._said: dict[str, float] = {}
        self._told_losses: Counter[str] = Counter()
        self._drift = DriftMonitor()
        self._stages = [self.metrics.histogram("stage_ms", stage=stage) for stage in STAGES]
        self.writer_up = True
        self.draining = False
        self._drained = False

    # ranking

    def rank(self, request: Request) -> Ranked:
        """Rank, count, and keep what was shown for the log.

        Raises:
            Unavailable: The service is shutting down.
        """
        if self.draining:
            raise Unavailable("the service is shutting down; ask again in a moment")
        ranked = self.engine.run(request)
        self._outbox.add(ranked)
        self._count(ranked)
        return ranked

    def _count(self, ranked: Ranked) -> None:
        slate, metrics = ranked.slate, self.metrics
        self._drift.add(self.engine.release.reference, ranked.table)
        for histogram, value in zip(self._stages, ranked.stage_ms, strict=True):
            histogram.add(value)
        for layer, bucket in slate.buckets.items() or (("", "none"),):
            entry = ranked.assignments.get(layer)
            experiment = entry.experiment if entry else "none"
            metrics.count("ranked_total", 1, experiment=experiment, bucket=bucket, strategy=slate.strategy)
            metrics.histogram("rank_ms", experiment=experiment, bucket=bucket).add(sum(ranked.stage_ms))
        if slate.degraded:
            reason = slate.degraded.split(";")[0]
            metrics.count("degraded_total", 1, reason=reason)
            now = time.monotonic()
            if now - self._said.get(reason, -1.0) >= 1.0:  # the first of each second is enough to find the cause
                self._said[reason] = now
                log.warning("a page was degraded", extra={"request_id": slate.request_id, "degraded": slate.degraded})
        if ranked.n_unknown_items:
            metrics.count("unknown_items_total", ranked.n_unknown_items)
        if ranked.unknown_user:
            metrics.count("unknown_users_total", 1)

    # events

    async def feedback(self, events: pa.Table) -> int:
        """Commit feedback; the answer means it is durable.

        Raises:
            Busy: Too much feedback waits already.
            Unavailable: The store did not answer in time; the caller may send the same events again.
        """
        if self.draining:
            raise Unavailable("the service is shutting down; send these events again in a moment")
        if self._feedback_rows and self._feedback_rows + events.num_rows > self._feedback_rows_max:
            raise Busy(f"{self._feedback_rows} events wait for the event store; send these again later")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._feedback.append((events, done))
        self._feedback_rows += events.num_rows
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_feedback())
        try:
            await asyncio.wait_for(asyncio.shield(done), self._patience_s)
        except TimeoutError:
            done.cancel()
            raise Unavailable("the event store did not commit in time; send the same events again") from None
        self.metrics.count("feedback_total", events.num_rows)
        return int(events.num_rows)

    async def _send_feedback(self) -> None:
        """Everything that waits goes in one call; what arrives meanwhile goes in the next."""
        while self._feedback:
            group, self._feedback = self._feedback, []
            live = [(table, done) for table, done in group if not done.done()]
            error: Exception | None = None
            try:
                if live:
                    await self._append({"feedback": pa.concat_tables([table for table, _ in live])}, live)
            except Exception as failure:  # handed to every waiting caller below
                error = failure
            self._feedback_rows -= sum(table.num_rows for table, _ in group)
            for _, done in live:
                if not done.done():
                    done.set_result(None) if error is None else done.set_exception(_refusal(error))

    async def _append(self, tables: Mapping[str, pa.Table], waiting: list[tuple[pa.Table, asyncio.Future[None]]]) -> None:
        """Repeat until the writer answers: it may be restarting, and appending twice is harmless."""
        while True:
            try:
                await self.writer.append(tables)
                self.writer_up = True
                return
            except ScorefusionError:
                self.writer_up = True
                raise
            except Exception as error:  # a dead writer is tried again while anyone waits
                self.writer_up = False
                log.warning("event store writer does not answer", extra={"error": type(error).__name__})
                if all(done.done() for _, done in waiting):
                    raise
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> None:
        """Send what was shown since the last flush. A batch whose commit failed stays and goes first next time."""
        async with self._flushing:
            await self._report_losses()
            if self._batch is None:
                self._batch = await self._drain_outbox()
                if self._batch is None:
                    return
            await self.writer.append(self._batch)
            self._batch = None

    async def _drain_outbox(self) -> Mapping[str, pa.Table] | None:
        """What waits as tables, made a few requests at a time: nobody's ranking waits for more than a few."""
        for _ in range(-(-len(self._outbox) // DRAIN)):  # what arrives meanwhile goes next time
            part = self._outbox.drain(DRAIN)
            if part is not None:
                self._parts.append(part)
            await asyncio.sleep(0)
        parts, self._parts = self._parts, []
        if not parts:
            return None
        return {name: pa.concat_tables([getattr(p, name) for p in parts]) for name in ("requests", "assignments", "exposures")}

    async def _report_losses(self) -> None:
        lost = self._outbox.lost - self._told_losses
        if lost:
            await self.writer.lose(lost)
            self._told_losses += lost

    @property
    def _holds_exposures(self) -> bool:
        return bool(len(self._outbox) or self._parts or self._batch is not None)

    async def start(self) -> None:
        """Begin flushing in the background."""
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_forever())

    async def stop(self, patience_s: float = 10.0) -> None:
        """Stop flushing after everything waiting is committed, or after `patience_s`."""
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
            self._flusher = None
        try:
            async with asyncio.timeout(patience_s):
                while self._holds_exposures:
                    try:
                        await self.flush()
                    except Exception:  # tried again until patience ends
                        await asyncio.sleep(RETRY_S)
                if self._sending is not None:
                    await self._sending
        except TimeoutError:
            log.error("stopped with exposures that could not be committed", extra={"n_requests": len(self._outbox)})

    async def _flush_forever(self) -> None:
        reported = 0.0
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self.flush()
                self.writer_up = True
                now = time.monotonic()
                if now - reported > REPORT_S or self.draining:
                    reported = now
                    self._drained = self.draining and not (self._holds_exposures or self._feedback_rows)
                    answer = await self.writer.report(self._replica, self.snapshot(), self._drained)
                    self.draining = self.draining or bool(answer["draining"])
                    self._heed_reload(int(answer["reload_ms"]))
                    self._warn_of_drift(now)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # the loop must outlive every failure of the store
                if self.writer_up:
                    log.warning("exposures wait for the event store", extra={"error": type(error).__name__})
                self.writer_up = False
                await asyncio.sleep(RETRY_S)

    def _warn_of_drift(self, now: float) -> None:
        for task, value in self._drift.alarms().items():
            if now - self._said.get(f"drift:{task}", -math.inf) >= ALARM_S:
                self._said[f"drift:{task}"] = now
                log.warning("scores have drifted from the release's reference", extra={"task": task, "psi": round(value, 4)})

    def _heed_reload(self, asked_ms: int) -> None:
        """A replica that has just started has just loaded; later requests to reload are followed once each."""
        known, self._reload_ms = self._reload_ms, max(asked_ms, self._reload_ms or 0)
        idle = self._reloading is None or self._reloading.done()
        if known is not None and asked_ms > known and self._load is not None and idle:
            self._reloading = asyncio.create_task(self.reload(self._load))

    async def reload(self, load: Callable[[], Release]) -> None:
        """Load beside the running release, then swap one reference. A release that cannot be loaded leaves the old one."""
        try:
            release = await asyncio.to_thread(load)
        except Exception as error:  # whatever fails, the old release goes on
            self.metrics.count("reloads_total", 1, outcome="refused")
            log.error("a reload was refused; the old release goes on", extra={"error": str(error)})
            return
        old = self.engine.use(release)
        self.metrics.count("reloads_total", 1, outcome="done")
        log.info("another release is served", extra={"old": dict(old.versions), "new": dict(release.versions)})

    # views

    def snapshot(self) -> dict[str, Any]:
        """This replica's metrics."""
        self.metrics.put("outbox_requests", len(self._outbox))
        for bucket, n in self._outbox.lost.items():
            self.metrics.put("exposures_lost_total", n, bucket=bucket)
        for task, value in self._drift.psi().items():
            self.metrics.put("score_psi", value, task=task, replica=self._replica)
        return self.metrics.snapshot()

    async def snapshots(self) -> list[Mapping[str, Any]]:
        """Metrics of all replicas; of this one alone while the writer is away."""
        snapshot = self.snapshot()
        try:
            async with asyncio.timeout(2.0):
                return list((await self.writer.report(self._replica, snapshot, self._drained))["snapshots"])
        except Exception:  # without the others' figures, this replica's
            return [snapshot]

    async def readout(self, experiment: str) -> dict[str, Any]:
        """The readout of everything shown so far; this replica's own waiting exposures included."""
        try:
            async with asyncio.timeout(30.0):
                await self.flush()
                return await self.writer.readout(experiment)
        except ScorefusionError:
            raise
        except Exception as error:  # any failure of the store is one 503
            raise Unavailable(f"the event store does not answer ({type(error).__name__}); try again") from error


class PlanView(Protocol):
    """What the API shows of a plan."""

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments."""

    def to_json(self) -> Mapping[str, Any]:
        """The plan as JSON values."""

    def assignments(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Buckets by layer for a unit's attributes."""


def _refusal(error: Exception) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ScorefusionError):
        return Busy(str(error)) if isinstance(error, Full) else Unavailable(str(error))
    return Unavailable(f"the event store failed ({type(error).__name__}); send the same events again")
