"""Counters and histograms of one replica, merged over replicas, shown as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

Labels = tuple[tuple[str, str], ...]
BOUNDS_MS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0)
_HELP: Mapping[str, str] = {
    "requests_total": "HTTP requests answered, by route and status.",
    "ranked_total": "Pages ranked, by bucket and strategy.",
    "degraded_total": "Pages ranked by a fallback, by first reason.",
    "unknown_items_total": "Candidates scored by the fallback row.",
    "unknown_users_total": "Requests of users without features.",
    "feedback_total": "Feedback events acknowledged after their commit.",
    "exposures_lost_total": "Requests whose exposure was dropped, by bucket.",
    "reloads_total": "Reloads of the release, by outcome.",
    "score_psi": "Population stability index of a task's scores against the release's reference; above 0.25 they are others.",
    "outbox_requests": "Requests waiting for the event store.",
    "rank_ms": "Milliseconds of one ranking in the engine, by bucket.",
    "stage_ms": "Milliseconds of one stage of a ranking.",
}


class Histogram:
    """Counts below fixed bounds; the last count is everything above."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BOUNDS_MS, value)] += 1
        self.total += value


class Metrics:
    """One replica's numbers. Single-threaded, so that counting costs well below a microsecond.

    >>> metrics = Metrics()
    >>> metrics.count("requests_total", 1, route="rank", status="200")
    >>> print(render([metrics.snapshot(), metrics.snapshot()]).splitlines()[-1])
    scorefusion_requests_total{route="rank",status="200"} 2
    """

    def __init__(self) -> None:
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}

    def count(self, name: str, by: float, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        self._counters[key] = self._counters.get(key, 0) + by

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge; gauges of several replicas add up."""
        self._counters[(name, tuple(labels.items()))] = value

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram of these labels, to keep and add to."""
        return self._histograms.setdefault((name, tuple(labels.items())), Histogram())

    def snapshot(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        return {
            "counters": [[name, list(map(list, labels)), value] for (name, labels), value in self._counters.items()],
            "histograms": [[name, list(map(list, labels)), h.counts, h.total] for (name, labels), h in self._histograms.items()],
        }


def merge(snapshots: Sequence[Mapping[str, Any]]) -> tuple[dict[tuple[str, Labels], float], dict[tuple[str, Labels], Histogram]]:
    """Sums over replicas."""
    counters: dict[tuple[str, Labels], float] = {}
    histograms: dict[tuple[str, Labels], Histogram] = {}
    for snapshot in snapshots:
        for name, labels, value in snapshot["counters"]:
            key = (name, _labels(labels))
            counters[key] = counters.get(key, 0) + value
        for name, labels, counts, total in snapshot["histograms"]:
            merged = histograms.setdefault((name, _labels(labels)), Histogram())
            merged.counts = [a + b for a, b in zip(merged.counts, counts, strict=True)]
            merged.total += total
    return counters, histograms


def render(snapshots: Sequence[Mapping[str, Any]]) -> str:
    """Prometheus' text format of the merged snapshots."""
    counters, histograms = merge(snapshots)
    lines: list[str] = []
    for name in sorted({name for name, _ in histograms}):
        lines += _head(name, "histogram")
        for (_, labels), histogram in sorted((k, h) for k, h in histograms.items() if k[0] == name):
            running = 0
            for bound, count in zip((*BOUNDS_MS, "+Inf"), histogram.counts, strict=True):
                running += count
                lines.append(f"scorefusion_{name}_bucket{_text((*labels, ('le', str(bound))))} {running}")
            lines.append(f"scorefusion_{name}_sum{_text(labels)} {histogram.total:g}")
            lines.append(f"scorefusion_{name}_count{_text(labels)} {running}")
    for name in sorted({name for name, _ in counters}):
        lines += _head(name, "counter" if name.endswith("_total") else "gauge")
        for (_, labels), value in sorted((k, v) for k, v in counters.items() if k[0] == name):
            lines.append(f"scorefusion_{name}{_text(labels)} {value:.17g}")
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP scorefusion_{name} {_HELP.get(name, name)}", f"# TYPE scorefusion_{name} {kind}"]


def _labels(labels: Sequence[Sequence[str]]) -> Labels:
    return tuple((name, value) for name, value in labels)


def _text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
