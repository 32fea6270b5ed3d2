"""The engine: one request through assign, features, score, fuse, rules and slate; plain Python, no web, no ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from core.arrays import Ints
from core.events import Decision, Request, Slate
from core.scores import ScoreTable
from serving import stages
from serving.release import Release
from serving.rules import Rules

STAGES = ("assign", "features", "score", "fuse", "slate")


class Assignment(Protocol):
    """One layer's answer for one unit, as the experiment package gives it."""

    @property
    def experiment(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def strategy(self) -> str | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def forced(self) -> bool: ...


Assign = Callable[[Request], Mapping[str, Assignment]]


@dataclass(slots=True)
class Ranked:
    """A slate with what the log, the metrics and an explanation want to know beside it.

    `table` holds every candidate's scores; `stage_ms` follows `STAGES`; `decision` is a policy's.
    """

    request: Request
    slate: Slate
    table: ScoreTable
    order: Ints
    assignments: Mapping[str, Assignment]
    n_unknown_items: int
    unknown_user: bool
    stage_ms: tuple[float, ...]
    plan_version: int = 0
    decision: Decision | None = None


class Engine:
    """Ranks requests with one release, which `use` swaps by one reference.

    Args:
        release: What to rank with.
        assign: The plan's buckets for a request; nobody is in an experiment without it.
        rules: What is enforced after fusion.
        deadline_ms: Budget of one request; a stage that starts later falls back.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        release: Release,
        *,
        assign: Assign | None = None,
        plan_version: int = 0,
        rules: Rules | None = None,
        deadline_ms: float = 50.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.release = release
        self._assign = assign
        self._plan_version = plan_version
        self._rules = rules or Rules(())
        self._deadline_s = deadline_ms / 1000
        self._clock = clock

    def use(self, release: Release) -> Release:
        """Serve another release from the next request on; the old one is returned for a rollback."""
        old, self.release = self.release, release
        return old

    def rank(self, request: Request) -> Slate:
        """The page for one request."""
        return self.run(request).slate

    def run(self, request: Request) -> Ranked:
        """The page with everything that was known when it was made. What fails falls down the ladder.

        Raises:
            RequestError: The features that came with the request cannot be read.
        """
        clock, release = self._clock, self.release
        t0 = clock()
        reasons: list[str] = []
        assignments, chosen = self._bucket(request, release, reasons)
        t1 = clock()
        gathered = stages.gather(release.features, request, reasons)
        t2 = clock()
        late = t2 - t0 > self._deadline_s
        if late:
            reasons.append("deadline")
        table = (
            stages.no_scores(len(request.candidates))
            if late
            else stages.score(release.ranker, gathered, len(request.candidates), reasons)
        )
        t3 = clock()
        fused = stages.fuse(release, chosen, table, request, reasons)
        t4 = clock()
        order = stages.order(fused.final)
        page = self._page(order, request, reasons)
        changed = self._rules and not (len(page) == min(request.page_size, len(order)) and (page == order[: len(page)]).all())
        slate = Slate(
            request.request_id,
            request.candidates[page],
            fused.final[page],
            table.take(page),
            fused.strategy,
            release.versions,
            fused.weights,
            math.nan if changed else fused.propensity,
            {layer: entry.bucket for layer, entry in assignments.items()},
            ";".join(reasons) or None,
        )
        t5 = clock()
        timings = ((t1 - t0) * 1e3, (t2 - t1) * 1e3, (t3 - t2) * 1e3, (t4 - t3) * 1e3, (t5 - t4) * 1e3)
        unknown, stranger, version = gathered.n_unknown, gathered.unknown_user, self._plan_version
        return Ranked(request, slate, table, page, assignments, unknown, stranger, timings, version, fused.decision)

    def explain(self, ranked: Ranked) -> list[dict[str, float]] | None:
        """Each shown item's contribution per task, where the strategy can tell."""
        explain: Any = getattr(self.release.strategies.get(ranked.slate.strategy), "explain", None)
        if explain is None:
            return None
        context = stages.fusion_context(ranked.request, self.release)
        try:
            return [dict(explain(ranked.table, int(row), context)) for row in ranked.order]
        except Exception:  # an explanation that fails must not cost the page
            return None

    def _page(self, order: Ints, request: Request, reasons: list[str]) -> Ints:
        if self._rules:
            try:
                return self._rules.apply(order, request)[: request.page_size]
            except Exception as error:  # broken rules are left out; named in `degraded`
                reasons.append(f"rules:{type(error).__name__}")
        return order[: request.page_size]

    def _bucket(self, request: Request, release: Release, reasons: list[str]) -> tuple[Mapping[str, Assignment], str]:
        if self._assign is None:
            return {}, release.default
        try:
            assignments = self._assign(request)
        except Exception as error:  # a broken plan means the default; named in `degraded`
            reasons.append(f"assign:{type(error).__name__}")
            return {}, release.default
        for entry in assignments.values():
            if entry.strategy:
                return assignments, entry.strategy
        return assignments, release.default
