"""Stand-ins with known numbers: a ranker that scores an item by its id, and strategies that fail on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from core.arrays import Floats, Floats32, Ints
from core.events import Decision
from core.scores import ScoreTable
from serving.release import Release


class Fused(NamedTuple):
    final: Floats
    weights: Mapping[str, float] = {}
    propensity: float = 1.0
    note: str | None = None
    decision: Decision | None = None


class ById:
    """Scores `click` = id / 1000 and `like` = 1 - id / 1000."""

    names = ("click", "like")

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.nan: frozenset[int] = frozenset()

    def score(self, user: Any, request: Any, items: Any) -> Floats32:
        if self.broken is not None:
            raise self.broken
        click = np.asarray(items, np.float32) / 1000
        click = np.where(np.isin(items, list(self.nan)), np.nan, click)
        return np.stack([click, 1 - click], 1).astype(np.float32)


class Ids:
    """Features that are the ids themselves; ids from 1000 on are unknown."""

    def __init__(self) -> None:
        self.broken: Exception | None = None

    def user(self, user_id: str) -> tuple[Any, bool]:
        return user_id, user_id != "stranger"

    def request(self, scenario: str, context: Mapping[str, Any]) -> Any:
        return None

    def items(self, ids: Ints) -> tuple[Any, int]:
        if self.broken is not None:
            raise self.broken
        return ids, int((ids >= 1000).sum())

    def inline(self, ids: Ints, columns: Mapping[str, Any]) -> Any:
        return np.asarray(columns["score"]) * 1000


class By:
    """One task's score as it is."""

    def __init__(self, task: str, *, kind: str = "formula") -> None:
        self.task = task
        self.requires = frozenset([task])
        self.propensity = 1.0
        self.note: str | None = None
        self.decision: Decision | None = None

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any]) -> Fused:
        return Fused(scores[self.task], {"w": 1.0}, self.propensity, self.note, self.decision)

    def explain(self, scores: ScoreTable, row: int, context: Mapping[str, Any]) -> dict[str, float]:
        return {self.task: float(scores[self.task][row])}


class Failing(By):
    """Raises, or answers NaN or the wrong shape, as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__("click")
        self.how = how

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any]) -> Fused:
        if self.how == "raises":
            raise ZeroDivisionError
        return Fused(np.full(len(scores), np.nan) if self.how == "nan" else np.zeros(len(scores) + 1))


class Entry(NamedTuple):
    experiment: str
    bucket: str
    strategy: str | None
    unit: str
    forced: bool = False


def release(**strategies: Any) -> Release:
    """A release of the fakes; `by_click` is the default."""
    named = {"by_click": By("click"), "by_like": By("like"), **strategies}
    kinds = {name: name if name in ("policy", "learned") else "formula" for name in named}
    return Release(ById(), Ids(), named, "by_click", {"ranker": "ranker/fake/v1"}, kinds)


@dataclass
class MemoryWriter:
    """An event writer that keeps tables in a list and can be away."""

    tables: list[Mapping[str, pa.Table]] = field(default_factory=list)
    away: Exception | None = None
    lost: list[Mapping[str, int]] = field(default_factory=list)
    delay_s: float = 0.0
    reload_ms: int = 0

    async def append(self, tables: Mapping[str, pa.Table]) -> None:
        await asyncio.sleep(self.delay_s)
        if self.away is not None:
            raise self.away
        self.tables.append(tables)

    async def lose(self, losses: Mapping[str, int]) -> None:
        self.lost.append(dict(losses))

    async def readout(self, experiment: str) -> dict[str, Any]:
        if self.away is not None:
            raise self.away
        return READOUT

    async def report(self, replica: str, snapshot: Mapping[str, Any], drained: bool) -> Mapping[str, Any]:
        if self.away is not None:
            raise self.away
        return {"snapshots": [snapshot], "draining": False, "reload_ms": self.reload_ms}

    async def ask_reload(self, now_ms: int) -> None:
        self.reload_ms = now_ms

    async def overview(self) -> dict[str, Any]:
        if self.away is not None:
            raise self.away
        return {"requests": 1, "exposures": 2, "feedback": 3}

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [row for tables in self.tables if name in tables for row in tables[name].to_pylist()]


def row(metric: str, diff: float, half: float, goal: str = "up") -> dict[str, Any]:
    """A readout row with a symmetric interval."""
    about = {"metric": metric, "bucket": "treatment", "control": 1.0, "treatment": 1.0 + diff, "status": "ok", "goal": goal}
    bounds = {"diff": diff, "diff_low": diff - half, "diff_high": diff + half, "p_value": 0.01}
    return about | bounds | {f"rel_{name}": value for name, value in bounds.items() if name != "p_value"}


READOUT: dict[str, Any] = {
    "experiment": "weights",
    "control": "control",
    "rows": [row("likes_per_user", 0.08, 0.03), row("hides_per_user", 0.05, 0.02, "down"), row("watch_s_per_user", 0.01, 0.04)],
    "counts": {"control": 5021, "treatment": 4979},
    "srm_p": 0.67,
    "verdicts": {"treatment": {"treatment": "treatment", "decision": "wait", "reason": "a guardrail is not decided yet"}},
    "alpha": 0.05,
    "warnings": ["buckets share inventory"],
}
