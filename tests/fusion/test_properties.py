"""What every formula and rank fusion keeps, on random scores with ties: goals, order of the items, constant tasks, NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import Floats, average_ranks
from core.errors import DataError
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion.formula import Formula
from fusion.formula.families import FAMILIES, family
from fusion.fused import FusionStrategy
from fusion.rank_fusion import METHODS, RankFusion
from fusion.strategy import FormulaStrategy

SPECS = [
    TaskSpec("click"),
    TaskSpec("purchase"),
    TaskSpec("watch_s", "regression", unit_of_measure="s"),
    TaskSpec("hate", goal="down"),
]
TASKS = TaskSet(SPECS)
NAMES = [*FAMILIES, *METHODS]


def strategy(name: str, rng: np.random.Generator, tasks: TaskSet = TASKS) -> FusionStrategy:
    """A family or a rank fusion with weights drawn from its whole range; the same for the tasks two sets share."""
    if name in METHODS:
        weights = dict(zip(tasks.scored, rng.uniform(0, 3, len(tasks.scored)).tolist(), strict=True))
        return RankFusion(name, weights, down=["hate"], c=float(rng.uniform(1, 100)))
    f = family(name, tasks)
    drawn = dict(zip(sorted(f.ranges, key=lambda p: "still" in p), rng.random(len(f.ranges)).tolist(), strict=True))
    return FormulaStrategy(f.formula, {p: low + drawn[p] * (high - low) for p, (low, high, _) in f.ranges.items()})


def scores(rng: np.random.Generator, n: int = 9) -> Floats:
    """Quarters: many ties, zeros and ones."""
    return rng.integers(0, 5, (n, len(SPECS))) / 4


def ranking(final: Floats) -> Floats:
    """Average ranks; finals within 1e-9 of one another are ties."""
    return average_ranks(np.round(final / max(1.0, float(np.abs(final).max())), 9))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_raising_a_score_moves_the_final_with_its_goal(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fusion, table = strategy(name, rng), scores(rng)
    before = fusion.fuse(ScoreTable(TASKS.names, table)).final
    for task in sorted(fusion.requires):
        item = int(rng.integers(len(table)))
        raised = table.copy()
        raised[item, TASKS.names.index(task)] += float(rng.choice([1e-6, 0.25, 1.0]))
        change = fusion.fuse(ScoreTable(TASKS.names, raised)).final[item] - before[item]
        slack = 1e-9 * max(1.0, abs(before[item]))
        assert change >= -slack if TASKS[task].goal == "up" else change <= slack, (task, change)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_items_in_another_order_have_the_same_finals_and_equal_items_tie(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fusion, table = strategy(name, rng), scores(rng)
    table[5] = table[2]
    order = rng.permutation(len(table))
    straight = fusion.fuse(ScoreTable(TASKS.names, table)).final
    turned = fusion.fuse(ScoreTable(TASKS.names, table[order])).final
    np.testing.assert_allclose(turned, straight[order], rtol=1e-9, atol=1e-9)
    assert straight[5] == straight[2]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ctr_x_watch", "two_output", "comb_min", "comb_max"}))
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_task_whose_score_is_constant_changes_no_ranking(name: str, seed: int, value: float) -> None:
    """The extremes are no exception by accident: a constant is 0 to comb_min, and 0 is never above an item's best."""
    more = TaskSet([*SPECS, TaskSpec("still")])
    rng = np.random.default_rng(seed)
    table = scores(rng)
    with_still = np.concatenate([table, np.full((len(table), 1), value)], axis=1)
    a, b = strategy(name, np.random.default_rng(seed)), strategy(name, np.random.default_rng(seed), more)
    if name in METHODS:  # the draw of c comes after the weights: give both the same
        b = RankFusion(name, {**a.weights, "still": 1.5}, down=["hate"], c=a.c)  # type: ignore[attr-defined]  # its own
    without, beside = a.fuse(ScoreTable(TASKS.names, table)).final, b.fuse(ScoreTable(more.names, with_still)).final
    np.testing.assert_array_equal(ranking(without), ranking(beside))


@pytest.mark.parametrize(
    "text",
    [
        "click + like",
        "where(click > .5, 1, like)",  # a comparison alone would swallow it
        "(click > .2) + like",
        "click ** 0 + like",  # and so would a power
        "rank(click) + like",
        "zscore(click) + like",
        "minmax(click + like)",
        "max(click, like)",
    ],
)
def test_nan_in_a_score_follows_the_declared_policy(text: str) -> None:
    table = np.array([[0.5, 0.1], [np.nan, 0.4], [0.1, 0.9], [0.7, 0.3]])
    broken = ScoreTable(("click", "like"), table)
    with pytest.raises(DataError, match=r"not finite for 1 of 4 items \(item 1: click=nan"):
        Formula.parse(text, tasks=["click", "like"]).final(broken)
    floored = Formula.parse(text, tasks=["click", "like"], nonfinite=-7.0).final(broken)
    assert floored.n_nonfinite == 1
    assert floored.values[1] == -7.0
    alone = Formula.parse(text, tasks=["click", "like"]).final(broken.take(np.array([0, 2, 3]))).values
    np.testing.assert_allclose(floored.values[[0, 2, 3]], alone, err_msg="the other items are fused as if it were not there")
