"""Judging final scores on a log by the kernel that judges formulas: they become a task of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.arrays import Floats
from core.events import SCORE
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.search.bootstrap import draw_values
from fusion.search.evaluator import Evaluator
from fusion.search.objective import Objective
from fusion.search.panel import Panel

_ONE = np.ones((1, 1))


class Judged:
    """Final scores of one strategy on one log.

    Attributes:
        value: The objective. terms: Each of its metrics, by name.
    """

    def __init__(self, final: Floats, log: LoggedDataset, objective: Objective) -> None:
        formula = Formula.parse("a * final_score", tasks=["final_score"], params=["a"])
        self._evaluator = Evaluator(formula, Panel(log.with_columns({f"{SCORE}final_score": final}), objective))
        answer = self._evaluator(_ONE)
        self.value = float(answer.values[0])
        self.terms: Mapping[str, float] = dict(zip(objective.names, answer.terms[0].tolist(), strict=True))

    def draws(self, users: Floats) -> Floats:
        """The objective under draws of users `[n_draws, U]`, `[n_draws]`: the same draws make gains paired."""
        return draw_values(self._evaluator, _ONE, users)[:, 0]

    def term_draws(self, users: Floats) -> dict[str, Floats]:
        """Each metric under the draws."""
        panel = self._evaluator.panel
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (users @ self._evaluator.per_user(_ONE)[0].T) / (users @ panel.eligible.T)  # (R, M)
        return {panel.objective.names[m]: shares[:, i] for i, m in enumerate(panel.measured)}

    @property
    def n_users(self) -> int:
        """Users of the log."""
        return self._evaluator.panel.n_users
