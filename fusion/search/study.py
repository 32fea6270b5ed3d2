"""A search as ask and tell with a memory: kept trials are replayed, so that a killed search goes on to the same result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from tqdm import tqdm

from core.arrays import Floats
from core.errors import ConfigError
from fusion.search.cem import CrossEntropy
from fusion.search.cma_es import CmaEs
from fusion.search.evaluator import Evaluation, Evaluator
from fusion.search.evolution import DifferentialEvolution
from fusion.search.grid import Grid
from fusion.search.guardrails import Guardrail, violations
from fusion.search.journal import Journal
from fusion.search.objective import Objective
from fusion.search.optuna_search import GaussianProcess, Nsga2, Tpe
from fusion.search.searcher import Answers, Searcher
from fusion.search.sobol import Random, Sobol
from fusion.search.space import Space

SEARCHERS: Final[Mapping[str, Callable[..., Searcher]]] = {
    "grid": Grid,
    "random": Random,
    "sobol": Sobol,
    "cem": CrossEntropy,
    "cma_es": CmaEs,
    "tpe": Tpe,
    "gp": GaussianProcess,
    "nsga2": Nsga2,
    "de": DifferentialEvolution,
}
_BATCH: Final = {"tpe": 8, "gp": 4}  # these learn after every batch; the others take large ones


class Trials(NamedTuple):
    """Points of the unit cube `[n, P]`, what they are worth, and how far they violate the guardrails `[n]`."""

    unit: Floats
    found: Evaluation
    violations: Floats


class Study:
    """The trials of one search, whoever judges them.

    Args:
        control: Terms `[M]` of the control, which guardrails refer to.
        batch: Points asked at once; by the searcher when None.

    Raises:
        ConfigError: The searcher is unknown, or cannot search so many parameters.
    """

    def __init__(
        self,
        space: Space,
        objective: Objective,
        *,
        searcher: str,
        n_trials: int,
        batch: int | None,
        seed: int,
        guardrails: Sequence[Guardrail],
        control: Floats,
        journal: Journal,
    ) -> None:
        self.space, self.objective, self.n_trials, self.searcher = space, objective, n_trials, searcher
        self._guardrails, self._control, self._journal = guardrails, control, journal
        self._searcher = SEARCHERS[searcher](len(space), n_trials=n_trials, seed=seed, n_terms=len(objective.metrics))
        self._size = batch or _BATCH.get(searcher, 64)
        self._kept = list(journal.batches)
        self._parts: list[dict[str, Floats]] = []
        self._points: Floats = np.zeros((0, len(space)))
        self.n_done = 0

    def ask(self) -> Floats:
        """Parameter vectors `[n, P]` to judge next; none when the search is over. Kept trials are told without being asked."""
        while self.n_done < self.n_trials:
            self._points = self._searcher.ask(min(self._size, self.n_trials - self.n_done))
            if len(self._points) == 0:
                break
            if not self._kept:
                return self.space.decode(self._points)
            part = self._kept.pop(0)
            if part["unit"].shape != self._points.shape or not np.allclose(part["unit"], self._points, atol=1e-12):
                raise ConfigError("the kept trials do not replay; the searcher's library has changed, so delete the folder")
            self._take(part)
        return np.zeros((0, len(self.space)))

    def tell(self, found: Evaluation) -> None:
        """What the vectors of the last `ask` are worth; it is on disk before the next ask."""
        part = {"values": found.values, "terms": found.terms, "nonfinite": found.n_nonfinite.astype(float)}
        self._journal.add({"unit": self._points, **part})
        self._take({"unit": self._points, **part})

    def trials(self) -> Trials:
        """All trials so far."""
        together = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        found = Evaluation(together["values"], together["terms"], together["nonfinite"].astype(np.int64))
        return Trials(together["unit"], found, self._violations(found.terms))

    def _take(self, part: dict[str, Floats]) -> None:
        self._parts.append(part)
        answers = Answers(part["values"], self.objective.signed(part["terms"]), self._violations(part["terms"]))
        self._searcher.tell(part["unit"], answers)
        self.n_done += len(part["unit"])

    def _violations(self, terms: Floats) -> Floats:
        return violations(self._guardrails, self.objective, terms, self._control)


Driver: TypeAlias = Callable[[Study, Evaluator, bool], None]  # judges a study to its end; the flag shows progress


def drive(study: Study, judge: Evaluator, progress: bool) -> None:
    """In this process, batch after batch."""
    with tqdm(total=study.n_trials, desc=f"search by {study.searcher}", unit="trial", disable=not progress) as bar:
        while len(vectors := study.ask()):
            study.tell(judge(vectors))
            bar.update(study.n_done - bar.n)
