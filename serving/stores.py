"""What the writer asks of the event store beyond appending: readouts by plan, and counts for the first page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError
from experiment.readout import readout as read
from experiment.store import open_store
from experiment.store.interface import TABLES, EventStore
from serving.loading import ServedPlan


def open_events(url: str) -> EventStore:
    """Open a store by its URL.

    Raises:
        StoreError: It cannot be opened; another process may hold its file.
    """
    return open_store(url)


def overview(store: EventStore) -> dict[str, Any]:
    """Rows by table, and the time of the newest request."""
    counts = {name: int(store.select(f"SELECT count(*) AS n FROM {name}")["n"][0]) for name in TABLES}
    newest = store.select("SELECT coalesce(max(time_ms), 0) AS t FROM requests")["t"][0]
    return {**counts, "newest_ms": int(newest)}


def readout(store: EventStore, plan: ServedPlan | None, experiment: str, now_ms: int) -> dict[str, Any]:
    """An experiment's readout as JSON values.

    Raises:
        ScorefusionError: There is no plan, no such experiment, or it names no metrics.
    """
    if plan is None:
        raise ConfigError("no plan is served; name one in the setting plan")
    return read(store, plan.plan.experiment(experiment), plan.plan.metrics, now_ms=now_ms).to_json()


def record_losses(store: EventStore, losses: Mapping[str, int], now_ms: int) -> None:
    """Keep how many exposures were dropped, by `experiment/bucket`: a readout blocks its verdict when they are many."""
    for bucket, n in losses.items():
        store.record_loss("exposures", bucket, n, time_ms=now_ms)
