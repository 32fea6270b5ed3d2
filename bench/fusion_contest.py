"""Fusions in contest: each is fitted on earlier days and ranks later rows; answers are kept, so that a killed bench goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from core.arrays import Floats
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.calibrate import Calibration, fit
from fusion.formula import Formula
from fusion.formula.families import family
from fusion.fused import FusionStrategy
from fusion.learned.fit import learn
from fusion.learned.rows import final_scores
from fusion.search import Objective, Param, SearchResult, Space, gauc, mtf_gauc, search
from fusion.search.judged import Judged
from fusion.strategy import hand_set_strategy

GAINS: Final = {
    "click": 1.0, "long_view": 2.0, "like": 5.0, "follow": 10.0, "comment": 10.0, "forward": 10.0, "profile_enter": 3.0,
}  # fmt: skip
FAMILIES: Final = ("weighted_sum", "rank_sum", "log_sum", "power_product")  # simplest first: the order in which a draw is decided
LEARNED: Final = ("monotone", "lambdamart", "lambdarank", "distilled")
ROUNDS: Final = {"monotone": 12, "lambdamart": 10, "lambdarank": 10}  # at most; rolling days say how many
OPTIONS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "monotone": ("monotone", {}), "lambdamart": ("lambdamart", {}), "lambdarank": ("lambdamart", {"metric": "ndcg"}),
}  # fmt: skip
OBJECTIVE: Final = Objective([mtf_gauc(GAINS)])
SEVERAL: Final = Objective([mtf_gauc(GAINS), *(gauc(task, 1e-6) for task in ("click", "long_view", "like"))])  # for NSGA-II
SLOW: Final = {"tpe": 0.4}  # share of the trials of searchers whose own thinking takes longer than judging


@dataclass(frozen=True)
class Effort:
    """How much a run spends: trials of a rolling and of the last search, draws of users behind an interval."""

    rolling_trials: int
    trials: int
    n_draws: int


class Answer(NamedTuple):
    """What a contestant says: final scores `[n]` of the later rows, and a few words on what it became."""

    final: Floats
    words: str


class Contest:
    """Earlier rows to fit on, later rows to rank, both with out-of-sample scores.

    Args:
        kept: Folder of this contest's answers, so that a killed bench goes on.
        rolling: Whether the later rows are a validation day, whose labels may be looked at to choose.
    """

    def __init__(
        self, earlier: LoggedDataset, later: LoggedDataset, tasks: TaskSet, kept: Path, effort: Effort, *, rolling: bool
    ) -> None:
        self.earlier, self.later, self.tasks, self.kept, self.effort, self.rolling = earlier, later, tasks, kept, effort, rolling
        self.calibration: Calibration = fit(earlier, tasks)
        self._strategies: dict[str, FusionStrategy] = {}

    def judge(self, final: Floats) -> Judged:
        """Final scores of the later rows on the objective."""
        return Judged(final, self.later, OBJECTIVE)

    def answer(self, name: str, make: Callable[[], tuple[FusionStrategy, str]]) -> Answer:
        """A contestant's answer, from disk when it was given before."""
        path = self.kept / f"{name}.parquet"
        if not path.exists():
            strategy, words = make()
            final = final_scores(strategy, self.later)
            LoggedDataset({"final": final, "words": np.full(len(final), words, dtype=object)}).to_parquet(path)
        found = LoggedDataset.from_parquet(path)
        return Answer(found["final"], str(found["words"][0]))

    def hand_set(self) -> Answer:
        """The expected reward itself: the objective's gains times calibrated probabilities."""
        return self.answer("hand_set", lambda: (hand_set_strategy(GAINS, self.calibration), "the gains"))

    def formula(self, name: str, searcher: str = "cma_es") -> Answer:
        """A family's best formula on the earlier rows."""
        return self.answer(f"{name}-{searcher}", lambda: _words(self._search(name, searcher)))

    def random200(self) -> Answer:
        """The best of 200 random weighted sums on the earlier rows."""

        def make() -> tuple[FusionStrategy, str]:
            weights = self._search("weighted_sum", "random", 8).random200.weights
            return hand_set_strategy(weights, self.calibration), _weights(weights)

        return self.answer("random200", make)

    def learned(self, kind: str, rounds: Mapping[str, int]) -> Answer:
        """A learned fusion after so many rounds; `distilled` learns from a formula, the trees and the network at once."""
        n = "-".join(str(rounds[name]) for name in ROUNDS)
        return self.answer(f"{kind}-{n}", lambda: (self._learn(kind, rounds), f"{rounds.get(kind, ROUNDS['lambdamart'])} rounds"))

    def history(self, kind: str) -> Floats:
        """The objective on the later rows after each round `[ROUNDS]`: rolling contests only, it looks at their labels."""
        path = self.kept / f"history-{kind}.parquet"
        if not path.exists():
            learner, options = OPTIONS[kind]
            found = learn(
                learner, self.earlier, self.later, tasks=self.tasks, gains=GAINS, calibration=self.calibration,
                options=options, max_rounds=ROUNDS[kind], patience=ROUNDS[kind], seed=0, folder=self.kept / kind,
            )  # fmt: skip
            LoggedDataset({"value": np.array(found.history)}).to_parquet(path)
        return np.asarray(LoggedDataset.from_parquet(path)["value"])

    def _learn(self, kind: str, rounds: Mapping[str, int]) -> FusionStrategy:
        if kind in self._strategies:
            return self._strategies[kind]
        teachers: Sequence[FusionStrategy] = ()
        learner, options = OPTIONS.get(kind, OPTIONS["lambdamart"])
        n = rounds.get(kind, ROUNDS["lambdamart"])
        if kind == "distilled":
            formula = self._strategies.get("weighted_sum") or self._search("weighted_sum", "cma_es").strategy
            teachers = [formula, *(self._learn(name, rounds) for name in ROUNDS)]
        found = learn(
            learner, self.earlier, None, tasks=self.tasks, gains=GAINS, calibration=self.calibration,
            options=options, teachers=teachers, max_rounds=n, seed=0,
        )  # fmt: skip
        self._strategies[kind] = found.strategy
        return found.strategy

    def _search(self, name: str, searcher: str, trials: int | None = None) -> SearchResult:
        formula, space = _three_groups() if searcher == "grid" else _family(name, self.tasks)
        n = trials or int(SLOW.get(searcher, 1.0) * (self.effort.rolling_trials if self.rolling else self.effort.trials))
        result = search(
            formula, self.earlier, self.later, space=space, objective=SEVERAL if searcher == "nsga2" else OBJECTIVE,
            hand_set=GAINS, searcher=searcher, n_trials=n, calibration=self.calibration, seed=1, n_draws=20,
        )  # fmt: skip
        if searcher == "cma_es":
            self._strategies[name] = result.strategy
        return result


def choose(gains: Mapping[str, Floats], draws: Mapping[str, Floats]) -> tuple[str, dict[str, float]]:
    """The one-standard-error rule: the first whose mean over the rolling days is within one standard error of the best.

    Args:
        gains: By contestant, simplest first, the value on each rolling day `[days]`.
        draws: By contestant, its mean over the days under each draw of users `[n_draws]`, the same draws for all.

    Returns:
        The chosen one, and by contestant the standard error of its difference to the best.

    >>> values = {"plain": np.array([0.50, 0.52]), "rich": np.array([0.51, 0.52])}
    >>> choose(values, {"plain": np.array([0.50, 0.51, 0.52]), "rich": np.array([0.53, 0.51, 0.51])})[0]
    'plain'
    """
    mean = {name: float(np.mean(values)) for name, values in gains.items()}
    best = max(mean, key=mean.__getitem__)
    error = {name: float(np.std(draws[name] - draws[best], ddof=1)) for name in gains}
    chosen = next(name for name in gains if mean[name] >= mean[best] - error[name])
    return chosen, error


def _family(name: str, tasks: TaskSet) -> tuple[Formula, Space]:
    found = family(name, tasks)
    return found.formula, Space([Param(p, *limits) for p, limits in found.ranges.items()], found.scale_free)


def _three_groups() -> tuple[Formula, Space]:
    """A grid has room for three weights: watching, clicking, and the rare behaviours at their gains."""
    rare = " + ".join(f"{gain:g} * {task}" for task, gain in GAINS.items() if task not in ("click", "long_view"))
    names = ["w_click", "w_long_view", "w_rare"]
    text = f"w_click * click + w_long_view * long_view + w_rare * ({rare})"
    return Formula.parse(text, tasks=list(GAINS), params=names), Space([Param(name) for name in names], [names])


def _words(result: SearchResult) -> tuple[FusionStrategy, str]:
    return result.strategy, _weights(result.weights)


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in weights.items())
