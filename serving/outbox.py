"""The outbox: what one replica ranked, waiting as objects and leaving as columns for the event store, bounded, losses counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from core.events import ASSIGNMENT_SCHEMA, EXPOSURE_SCHEMA, REQUEST_SCHEMA, Decision
from serving.engine import Ranked


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one flush by the core's schemas."""

    requests: pa.Table
    assignments: pa.Table
    exposures: pa.Table

    @property
    def n_requests(self) -> int:
        return int(self.requests.num_rows)


class Outbox:
    """Ranked requests in the order they were answered. Single-threaded: one event loop adds and drains.

    Args:
        size: Requests that may wait; one more is dropped, its exposures counted for each of its buckets (`lost`).
        candidate_share: Share of requests whose candidates are all logged. Requests of an exploring strategy always are.
        uniform: Draws from [0, 1).
    """

    def __init__(self, size: int, candidate_share: float, uniform: Callable[[], float]) -> None:
        self._size = size
        self._share = candidate_share
        self._uniform = uniform
        self._waiting: list[Ranked] = []
        self.lost: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ranked: Ranked) -> None:
        """Keep a request until the next flush."""
        if len(self._waiting) >= self._size:
            n = len(ranked.slate.items)
            for name in [f"{e.experiment}/{e.bucket}" for e in ranked.assignments.values()] or ["none"]:
                self.lost[name] += n
        else:
            self._waiting.append(ranked)

    def drain(self, limit: int | None = None) -> Batch | None:
        """The oldest `limit` requests (all by default) as tables; None when nothing waits."""
        if not self._waiting:
            return None
        rows, self._waiting = self._waiting[:limit], [] if limit is None else self._waiting[limit:]
        return Batch(self._requests(rows), _assignments(rows), _exposures(rows))

    def _requests(self, rows: Sequence[Ranked]) -> pa.Table:
        whole = [self._logs_candidates(r) for r in rows]
        return pa.table(
            [
                [r.request.request_id for r in rows],
                [r.request.time_ms for r in rows],
                [r.request.user_id for r in rows],
                [r.request.scenario for r in rows],
                [len(r.request.candidates) for r in rows],
                [r.slate.versions.get("ranker") for r in rows],
                [r.slate.strategy for r in rows],
                [r.slate.versions.get(r.slate.strategy) for r in rows],
                [list(r.table.tasks) for r in rows],
                [list(r.slate.weights) for r in rows],
                [list(r.slate.weights.values()) for r in rows],
                [_or_none(r.slate.propensity) for r in rows],
                [r.slate.degraded for r in rows],
                [r.request.candidates.tobytes() if w else None for r, w in zip(rows, whole, strict=True)],
                [r.table.values.astype(np.float16).tobytes() if w else None for r, w in zip(rows, whole, strict=True)],
                [_text(r.request.context.get("session")) for r in rows],
                [_step(r.request.context.get("step")) for r in rows],
                *_decisions([r.decision for r in rows]),
            ],
            schema=REQUEST_SCHEMA,
        )

    def _logs_candidates(self, ranked: Ranked) -> bool:
        explores = ranked.decision is not None and ranked.decision.explores
        return explores or (self._share > 0 and self._uniform() < self._share)


def _decisions(decisions: Sequence[Decision | None]) -> list[Any]:
    """The columns of a policy's decision; null for requests that no policy answered."""
    vectors = [[None if d is None else getattr(d, name) for d in decisions] for name in ("state", "action", "baseline")]
    component = [None if d is None else d.component for d in decisions]
    numbers = [[None if d is None else _or_none(getattr(d, name)) for d in decisions] for name in ("component_density", "box")]
    return [*vectors, component, *numbers]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _step(value: Any) -> int | None:
    """The caller's page number, where it is a whole number of a sensible size."""
    try:
        return int(value) if value is not None and 0 <= int(value) < 2**31 else None
    except (ValueError, OverflowError):
        return None


def _assignments(rows: Sequence[Ranked]) -> pa.Table:
    entries = [(r, layer, entry) for r in rows for layer, entry in r.assignments.items()]
    return pa.table(
        [
            [r.request.request_id for r, _, _ in entries],
            [r.request.time_ms for r, _, _ in entries],
            [layer for _, layer, _ in entries],
            [e.experiment for _, _, e in entries],
            [e.bucket for _, _, e in entries],
            [e.unit for _, _, e in entries],
            [e.forced for _, _, e in entries],
            [r.plan_version for r, _, _ in entries],
        ],
        schema=ASSIGNMENT_SCHEMA,
    )


def _exposures(rows: Sequence[Ranked]) -> pa.Table:
    sizes = np.array([len(r.slate.items) for r in rows])
    at = pa.array(np.repeat(np.arange(len(rows), dtype=np.int32), sizes))
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    n_tasks = np.repeat([r.slate.scores.values.shape[1] for r in rows], sizes)
    offsets = np.concatenate([[0], np.cumsum(n_tasks)]).astype(np.int32)
    scores = np.concatenate([r.slate.scores.values.ravel() for r in rows]).astype(np.float32)
    return pa.table(
        [
            pa.array([r.request.request_id for r in rows]).take(at),
            np.repeat([r.request.time_ms for r in rows], sizes),
            pa.array([r.request.user_id for r in rows]).take(at),
            np.concatenate([r.slate.items for r in rows]),
            (np.arange(len(starts)) - starts + 1).astype(np.int32),
            pa.ListArray.from_arrays(pa.array(offsets), pa.array(scores)),
            np.concatenate([r.slate.final for r in rows]),
        ],
        schema=EXPOSURE_SCHEMA,
    )


def _or_none(value: float) -> float | None:
    return value if value == value else None
