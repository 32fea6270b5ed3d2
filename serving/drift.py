"""Drift of what is served: a sample of each task's scores, counted in the bins of the release's reference."""

from __future__ import annotations

from typing import Final

from core.arrays import Ints
from core.drift import ACT, Reference
from core.scores import ScoreTable

EVERY: Final = 20  # every so many requests is counted
WINDOW: Final = 20_000  # scores a task; beyond it old ones fade, so that a new drift shows within about as many
ENOUGH: Final = 500  # scores a task before an index is said


class DriftMonitor:
    """Counts for one replica; a release without reference has no drift.

    >>> import numpy as np
    >>> monitor, reference = DriftMonitor(), Reference.of({"click": np.linspace(0, 1, 1000)})
    >>> for _ in range(40):
    ...     monitor.add(reference, ScoreTable(("click",), np.linspace(0.5, 1, 500)[:, None]))
    >>> {task: value > ACT for task, value in monitor.psi().items()}
    {'click': True}
    """

    def __init__(self) -> None:
        self._reference: Reference | None = None
        self._counts: dict[str, Ints] = {}
        self._seen = 0

    def add(self, reference: Reference | None, scores: ScoreTable) -> None:
        """Count one request's scores, or pass it over. Another reference starts anew."""
        if reference is not self._reference:
            self._reference, self._counts, self._seen = reference, {}, 0
        self._seen += 1
        if reference is None or self._seen % EVERY != 0:
            return
        for task in reference.tasks:
            if task not in scores.tasks:
                continue
            new = reference.counts(task, scores[task])
            old = self._counts.get(task)
            if old is not None:
                new = new + (old // 2 if old.sum() > WINDOW else old)
            self._counts[task] = new

    def psi(self) -> dict[str, float]:
        """The stability index of each task with enough scores."""
        if self._reference is None:
            return {}
        return {t: self._reference.psi_of_counts(t, n) for t, n in self._counts.items() if n.sum() >= ENOUGH}

    def alarms(self) -> dict[str, float]:
        """Those whose scores are others than the strategies were fitted to."""
        return {task: value for task, value in self.psi().items() if value > ACT}
