"""The collector: what the writer knows of all replicas, so that any of them can show the metrics of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

GONE_S = 15.0
KEPT = 100


class Collector:
    """Latest snapshot of every replica; the counters of a dead one stay, its gauges go.

    >>> collector = Collector(clock=lambda: 0.0)
    >>> collector.report("a", {"counters": [["ranked_total", [], 2]], "histograms": []}, drained=False)["draining"]
    False
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest: dict[str, tuple[float, Mapping[str, Any], bool]] = {}
        self.draining = False
        self.reload_ms = 0  # when a reload was last asked for

    def report(self, replica: str, snapshot: Mapping[str, Any], drained: bool) -> dict[str, Any]:
        """Take one replica's numbers; answer everybody's, whether the service shuts down, and when a reload was asked for."""
        self._latest[replica] = (self._clock(), snapshot, drained)
        return {"snapshots": self.snapshots(), "draining": self.draining, "reload_ms": self.reload_ms}

    def snapshots(self) -> list[Mapping[str, Any]]:
        """One snapshot a replica."""
        now = self._clock()
        while len(self._latest) > KEPT:
            del self._latest[min(self._latest, key=lambda name: self._latest[name][0])]
        return [s if now - at < GONE_S else _counters_only(s) for at, s, _ in self._latest.values()]

    def drained(self) -> bool:
        """Whether every living replica has committed all it had."""
        now = self._clock()
        return all(done for at, _, done in self._latest.values() if now - at < GONE_S)


def _counters_only(snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**snapshot, "counters": [entry for entry in snapshot["counters"] if entry[0].endswith("_total")]}
