"""Ray Serve: one deployment ranks, one writes events; the only file of this package that knows ray."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from serving import loading
from serving.api import make_app
from serving.asgi import App
from serving.bodies import Limits
from serving.bootstrap import ensure
from serving.collector import Collector
from serving.logs import log_to
from serving.outbox import Outbox
from serving.service import Service
from serving.settings import Settings
from serving.stores import open_events, overview, readout, record_losses
from serving.writer import Writer, open_when_free

RANKING, EVENTS = "Ranking", "Events"
LOCK_WAIT_S = 10.0


class Ranking:
    """One replica of the hot path: assignment, features, ranker, fusion and the HTTP API in one process."""

    def __init__(self, settings: Settings, events: DeploymentHandle[Any]) -> None:
        name = serve.get_replica_context().replica_id.unique_id
        log_to(settings.resolve("logs") / f"ranking-{name}.jsonl")
        loaded = loading.load(settings)
        self._service = Service(
            loaded.engine,
            HandleWriter(events),
            limits=Limits(settings.body_bytes_max, settings.candidates_max, settings.page_size_max, settings.feedback_max),
            outbox=Outbox(settings.outbox_max, settings.candidate_share, random.Random(f"{settings.seed}/{name}").random),
            plan=loaded.plan,
            info=loaded.info,
            load=lambda: loading.load(settings).engine.release,
            flush_s=settings.flush_ms / 1000,
            feedback_timeout_s=settings.feedback_timeout_s,
            replica=name,
        )
        self._app = make_app(self._service, admin_token=settings.admin_token)

    def __serve_build_asgi_app__(self) -> App:
        """What ray calls for every HTTP request of this replica."""
        return self._app


class Events:
    """The one writer of the event store, and the meeting point of all replicas' metrics."""

    def __init__(self, settings: Settings) -> None:
        log_to(settings.resolve("logs") / "events.jsonl")
        self._settings = settings
        self._collector = Collector()
        self._plan = loading.load_plan(settings)
        # a killed predecessor's lock disappears with its process, which may take a moment
        self._writer = Writer(lambda: open_when_free(lambda: open_events(settings.store_url), wait_s=LOCK_WAIT_S))

    async def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Commit; see `EventWriter`."""
        await asyncio.wrap_future(self._writer.append(tables))

    async def readout(self, experiment: str) -> dict[str, Any]:
        """Compare an experiment's buckets over everything committed."""
        plan = self._plan
        now_ms = time.time_ns() // 1_000_000
        return await asyncio.wrap_future(self._writer.read(lambda store: readout(store, plan, experiment, now_ms)))

    async def report(self, replica: str, snapshot: Mapping[str, Any], drained: bool) -> dict[str, Any]:
        """Exchange metrics; see `EventWriter`."""
        return self._collector.report(replica, snapshot, drained)

    async def lose(self, losses: Mapping[str, int]) -> None:
        """Record exposures that a replica had to drop; see `EventWriter`."""
        now_ms = time.time_ns() // 1_000_000
        await asyncio.wrap_future(self._writer.read(lambda store: record_losses(store, losses, now_ms)))

    async def overview(self) -> dict[str, Any]:
        """Counts of what is stored."""
        stored = await asyncio.wrap_future(self._writer.read(overview))
        return {**stored, "commits": self._writer.n_commits, "waiting_rows": self._writer.waiting_rows}

    async def ask_reload(self, now_ms: int) -> None:
        """Have every replica load its artefacts again with its next report."""
        self._collector.reload_ms = now_ms

    async def drain(self) -> bool:
        """Ask all replicas to stop taking requests; true once everything they had is committed."""
        self._collector.draining = True
        return self._collector.drained()

    async def check_health(self) -> None:
        """Ray restarts this process when its thread has died."""
        if not self._writer.alive:
            raise RuntimeError("the event store's writer thread has died")

    def __del__(self) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.close()


class HandleWriter:
    """The writer deployment as the service's `EventWriter`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def append(self, tables: Mapping[str, pa.Table]) -> None:
        """Commit remotely."""
        await self._handle.append.remote(tables)

    async def lose(self, losses: Mapping[str, int]) -> None:
        """Record losses remotely."""
        await self._handle.lose.remote(dict(losses))

    async def readout(self, experiment: str) -> dict[str, Any]:
        """Read remotely."""
        found: dict[str, Any] = await self._handle.readout.remote(experiment)
        return found

    async def report(self, replica: str, snapshot: Mapping[str, Any], drained: bool) -> Mapping[str, Any]:
        """Exchange metrics."""
        found: Mapping[str, Any] = await self._handle.report.remote(replica, snapshot, drained)
        return found

    async def ask_reload(self, now_ms: int) -> None:
        """Ask remotely."""
        await self._handle.ask_reload.remote(now_ms)

    async def overview(self) -> dict[str, Any]:
        """Count remotely."""
        found: dict[str, Any] = await self._handle.overview.remote()
        return found


def build(settings: Settings) -> Application:
    """The whole service as one Serve application. With no ranker in the settings, a small world is made first."""
    settings = ensure(settings)
    events = serve.deployment(
        name=EVENTS,
        num_replicas=1,
        max_ongoing_requests=1_000,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=20,
        logging_config={"encoding": "JSON", "enable_access_log": False},
    )(Events)
    ranking = serve.deployment(
        name=RANKING,
        num_replicas=settings.replicas,
        max_ongoing_requests=max(1, settings.queue // 2),
        max_queued_requests=settings.queue,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=20,
        max_surge_percent=100,
        logging_config={"encoding": "JSON", "enable_access_log": False},
    )(serve.ingress()(Ranking))
    app: Application = ranking.bind(settings, events.bind(settings))
    return app


def start(settings: Settings, *, on_ray: Callable[[], None] = lambda: None) -> None:
    """Start ray on this machine with the service on it; returns once the replicas run.

    Args:
        settings: What to serve.
        on_ray: Called when ray itself is up, before the service: ray has then put its own signal handlers in place.

    Raises:
        ScorefusionError: Something the settings name is missing, damaged or locked; nothing was started.
    """
    settings = ensure(settings)
    loading.load(settings)
    open_when_free(lambda: open_events(settings.store_url), wait_s=LOCK_WAIT_S).close()
    app = build(settings)
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=200_000_000
    )
    on_ray()
    serve.start(http_options={"host": settings.host, "port": settings.port})
    serve.run(app)


def stop(patience_s: float) -> bool:
    """Refuse new requests, commit what every replica holds, close the store, stop ray.

    Returns:
        False when some exposures could not be committed within `patience_s`. Acknowledged feedback always is already.
    """
    stop_ray: Any = ray.shutdown
    try:
        return asyncio.run(_stop(patience_s)) if ray.is_initialized() else True
    finally:
        stop_ray()


async def _stop(patience_s: float) -> bool:
    committed = False
    with contextlib.suppress(Exception):  # the application may never have come up
        events: Any = serve.get_deployment_handle(EVENTS, "default")
        async with asyncio.timeout(patience_s):
            while not await events.drain.remote():
                await asyncio.sleep(0.1)
        committed = True
    stop_serve: Any = serve.shutdown_async
    await stop_serve()
    return committed
