"""Every strategy keeps every check, and a broken one fails the check it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion import checks
from fusion.calibrate import Calibration, TaskCalibration
from fusion.checks import CHECKS, Check
from fusion.formula.families import FAMILIES, family
from fusion.fused import NO_CONTEXT, Fused, FusionStrategy
from fusion.rank_fusion import METHODS, RankFusion
from fusion.segmented_strategy import SegmentedFormula
from fusion.strategy import STRATEGIES, FormulaStrategy, Publishable, hand_set_strategy, load_strategy, publish

TASKS = TaskSet(
    [
        TaskSpec("click"),
        TaskSpec("purchase"),
        TaskSpec("watch_s", "regression", unit_of_measure="s"),
        TaskSpec("hate", goal="down"),
    ]
)
SCORES = ScoreTable(TASKS.names, np.random.default_rng(1).random((12, 4)).astype(np.float32).astype(np.float64))
PLATT = Calibration({"click": TaskCalibration("platt", np.array([1.5, 0.2]))})
WEIGHTS = {"click": 1.0, "watch_s": 0.5, "hate": 2.0}


def _family(name: str) -> FormulaStrategy:
    f = family(name, TASKS)
    return FormulaStrategy(f.formula, {p: low + 0.4 * (high - low) for p, (low, high, _) in f.ranges.items()})


EXAMPLES: Mapping[str, Publishable] = {
    **{name: _family(name) for name in FAMILIES},
    "hand_set": hand_set_strategy({"click": 1.0, "purchase": 4.0}, PLATT),
    "by_scenario": SegmentedFormula("scenario", _family("log_sum"), {"": _family("log_sum").weights}),
    **{name: RankFusion(name, WEIGHTS, down=["hate"]) for name in METHODS},
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", EXAMPLES)
def test_strategy_keeps(name: str, check: Check) -> None:
    check(EXAMPLES[name], SCORES, NO_CONTEXT, TASKS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    loaded = load_strategy(publish(ArtefactStore(tmp_path), name, EXAMPLES[name]))
    np.testing.assert_array_equal(loaded.fuse(SCORES).final, EXAMPLES[name].fuse(SCORES).final)


def test_every_kind_has_an_example() -> None:
    elsewhere = {
        "lambdamart",
        "monotone_network",
        "policy",
    }  # they keep the same checks in test_learned.py, policy/test_strategy.py
    assert {type(example).kind for example in EXAMPLES.values()} | elsewhere == set(STRATEGIES)


class Broken:
    """click * sign, with one thing wrong."""

    def __init__(
        self, final: Callable[[ScoreTable], np.ndarray], propensity: float = 1.0, requires: tuple[str, ...] = ("click",)
    ) -> None:
        self.final, self.propensity, self.requires = final, propensity, frozenset(requires)

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        return Fused(self.final(scores), {"w": 1.0}, self.propensity)


def _spoil(scores: ScoreTable) -> np.ndarray:
    scores.values[:] = 0.0
    return scores["click"]


_noise = np.random.default_rng(0)
BROKEN: list[tuple[Check, FusionStrategy]] = [
    (checks.one_finite_score_an_item, Broken(lambda s: s["click"][:-1])),
    (checks.one_finite_score_an_item, Broken(lambda s: s["click"] / 0.0)),
    (checks.one_finite_score_an_item, Broken(lambda s: s["click"].astype(np.float32))),
    (checks.deterministic, Broken(lambda s: s["click"] + _noise.random(len(s)))),
    (checks.changes_nothing, Broken(_spoil)),
    (checks.follows_the_items, Broken(lambda s: s["click"] + np.arange(len(s)))),
    (checks.reads_what_it_requires, Broken(lambda s: s.values[:, 0])),
    (checks.reads_what_it_requires, Broken(lambda s: np.zeros(len(s)))),
    (checks.says_what_it_used, Broken(lambda s: s["click"], propensity=0.0)),
    (checks.moves_with_the_goals, Broken(lambda s: -s["click"])),
    (checks.moves_with_the_goals, Broken(lambda s: s["hate"], requires=("hate",))),
]


@pytest.mark.filterwarnings("ignore:divide")
@pytest.mark.parametrize(("check", "strategy"), BROKEN, ids=[f"{c.__name__}-{i}" for i, (c, _) in enumerate(BROKEN)])
def test_a_broken_strategy_fails(check: Check, strategy: FusionStrategy) -> None:
    scores = ScoreTable(("hate", "click"), np.random.default_rng(2).random((9, 2)))
    with pytest.raises(AssertionError):
        check(strategy, scores, NO_CONTEXT, TASKS)
