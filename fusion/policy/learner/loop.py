"""One learner and its rows: what a training loop repeats, in one process or in each of several workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fusion.policy.learner.base import FusionLearner, lambda_returns
from fusion.policy.learner.rows import Rows
from fusion.policy.transitions import Transitions


class Loop:
    """One learner and its rows: draw, update, and make lambda-returns anew now and then."""

    def __init__(self, learner: FusionLearner, table: Transitions, *, rank: int = 0, n_workers: int = 1) -> None:
        """Worker `rank` of `n_workers` takes its part of every batch; all draw the same batches."""
        self.learner, self.rows = learner, Rows(table)
        self.learner.prepare(self.rows.columns)
        self.part = (rank, n_workers)
        self.draws = torch.Generator().manual_seed(int(self.learner.config.seed or 0) + 2)

    @property
    def n_updates(self) -> int:
        """Updates so far."""
        return self.learner.n_updates

    def run(self, n: int) -> dict[str, float]:
        """`n` updates; the means of their losses."""
        settings, totals = self.learner.net.settings, dict[str, Tensor]()
        counts = dict[str, int]()
        for _ in range(n):
            if settings["trace"] > 0 and self.n_updates % settings["trace_every"] == 0:
                self.refresh()
            index = torch.randint(self.rows.n, (settings["batch_size"],), generator=self.draws)
            for name, value in self.learner.step(self.rows.at(index[self.part[0] :: self.part[1]])).items():
                totals[name] = totals.get(name, torch.zeros(())) + value
                counts[name] = counts.get(name, 0) + 1
        return {name: float(total) / counts[name] for name, total in totals.items()}

    def refresh(self) -> None:
        """Lambda-returns of every row from the target networks as they are now."""
        rows, settings = self.rows, self.learner.net.settings
        rows.trace = None
        with torch.no_grad():
            found = [(self.learner.next_values(batch), self.learner.rewards(batch)) for batch in rows.chunks()]
        values, rewards = (torch.cat([pair[i] for pair in found], 1) for i in (0, 1))
        terminated = rows.columns["terminated"].float()
        returns = lambda_returns(
            rewards.expand_as(values), values, terminated, rows.session, gamma=settings["gamma"], trace=settings["trace"]
        )
        rows.trace = returns.T.contiguous()

    def snapshot(self) -> dict[str, Any]:
        """All that the next update depends on."""
        trace = self.rows.trace
        return {
            "learner": self.learner.snapshot(),
            "draws": self.draws.get_state(),
            "trace": torch.empty(0) if trace is None else trace,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self.learner.restore(state["learner"])
        self.draws.set_state(state["draws"])
        self.rows.trace = state["trace"] if state["trace"].numel() else None
