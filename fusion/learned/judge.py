"""Judging any strategy on a log, by its final scores."""

from __future__ import annotations

from core.logs import LoggedDataset
from fusion.fused import FusionStrategy
from fusion.learned.rows import final_scores
from fusion.search.judged import Judged
from fusion.search.objective import Objective


def judged(strategy: FusionStrategy, log: LoggedDataset, objective: Objective) -> Judged:
    """A strategy on a log of raw scores; what it needs to calibrate it does itself."""
    return Judged(final_scores(strategy, log), log, objective)
