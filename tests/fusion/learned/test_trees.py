"""Served trees: LightGBM's own answers, a proof of monotonicity that finds every wrong step, damaged files refused."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from core.errors import ArtefactError
from core.scores import ScoreTable
from fusion.learned.inputs import Inputs
from fusion.learned.lambdamart import _forest
from fusion.learned.trees import Forest, LambdaMart
from tests.fusion.learned.made import made

TWO = Inputs(("a", "b"), (1, 1), (True, True))
RNG = np.random.default_rng(0)


def booster(constraints: list[int], n_leaves: int = 31, n_trees: int = 20) -> tuple[lightgbm.Booster, np.ndarray]:
    x = RNG.random((3000, 2))
    y = np.sin(6 * x[:, 0]) + x[:, 1] + 0.1 * RNG.normal(size=3000)
    options = {"objective": "regression", "monotone_constraints": constraints, "num_leaves": n_leaves, "min_data_in_leaf": 5}
    options |= {"boost_from_average": False, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(options, lightgbm.Dataset(x, y), num_boost_round=n_trees), x


def test_the_masks_give_the_trees_answers() -> None:
    """Values on thresholds, between them and far outside included."""
    model, x = booster([1, 1], n_leaves=32)
    forest = _forest(model.dump_model()["tree_info"])
    onto = np.stack([RNG.choice(forest.threshold, 500), RNG.choice(forest.threshold, 500)], axis=1)
    rows = np.concatenate([x, onto, [[-1e300, 1e300], [0.0, -0.0]]])
    ours = LambdaMart(TWO, forest).values(rows, np.zeros((1, 0)))
    np.testing.assert_allclose(ours, np.asarray(model.predict(rows)), rtol=0, atol=1e-12)


def test_unconstrained_trees_are_refused_and_constrained_ones_are_not() -> None:
    LambdaMart(TWO, _forest(booster([1, 1])[0].dump_model()["tree_info"]))
    with pytest.raises(ArtefactError, match="against the goal of 'a'"):
        LambdaMart(TWO, _forest(booster([0, 1])[0].dump_model()["tree_info"]))
    LambdaMart(Inputs(("b",), (1,), (True,), ("a",)), _swapped(_forest(booster([0, 1])[0].dump_model()["tree_info"])))


def _swapped(forest: Forest) -> Forest:
    return forest._replace(feature=1 - forest.feature)


def stump(low: float, high: float) -> Forest:
    """One split of `a` at .5."""
    none = np.array([-1]), np.array([-2])
    return Forest(np.array([0]), np.array([0.5]), *none, np.array([low, high]), np.array([0, 1]), np.array([0, 2]))


def test_one_split_by_hand() -> None:
    x = np.array([[0.5, 0.0], [0.6, 0.0]])
    assert LambdaMart(TWO, stump(-1.0, 2.0)).values(x, np.zeros((1, 0))).tolist() == [-1.0, 2.0]
    assert LambdaMart(TWO, stump(-1.0, 2.0).plus(stump(0.0, 0.25))).values(x, np.zeros((1, 0))).tolist() == [-1.0, 2.25]
    assert LambdaMart(TWO, Forest.empty()).values(x, np.zeros((1, 0))).tolist() == [0.0, 0.0]
    with pytest.raises(ArtefactError, match="move by -3 against the goal of 'a'"):
        LambdaMart(TWO, stump(2.0, -1.0))
    LambdaMart(Inputs(("a", "b"), (-1, 1), (True, True)), stump(2.0, -1.0))


def test_a_wrong_step_between_leaves_that_share_no_parent_is_found() -> None:
    """b < .5: a splits into 0, 5; b > .5: one leaf of 3. Raising b from the second leaf loses 2."""
    forest = Forest(
        np.array([1, 0]), np.array([0.5, 0.5]), np.array([1, -1]), np.array([-3, -2]), np.array([0.0, 5.0, 3.0]),
        np.array([0, 2]), np.array([0, 3]),
    )  # fmt: skip
    with pytest.raises(ArtefactError, match="-2 against the goal of 'b'"):
        LambdaMart(TWO, forest)


@pytest.mark.parametrize(
    "change",
    [
        {"left": np.array([0])},  # a cycle
        {"right": np.array([-1])},  # one leaf twice
        {"right": np.array([-7])},
        {"right": np.array([3])},
        {"feature": np.array([2])},
        {"feature": np.array([-1])},
        {"threshold": np.array([np.nan])},
        {"leaf": np.array([0.0, np.inf])},
        {"leaves": np.array([0, 1])},
        {"nodes": np.array([0, 0])},
    ],
)
def test_damaged_trees_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ArtefactError):
        LambdaMart(TWO, stump(0.0, 1.0)._replace(**change))
    with pytest.raises(ArtefactError, match="need the arrays"):
        LambdaMart.from_arrays(TWO, {"leaf": np.zeros(1)})


def test_context_bends_the_answer_for_all_items_alike() -> None:
    strategy = made("lambdamart_context").strategy
    table = ScoreTable(strategy.inputs.tasks, RNG.random((30, 3)))
    by_hour = {hour: strategy.fuse(table, {"hour": hour}).final for hour in (0, 12, 23)}
    x = np.asarray(table.values)
    for hour, final in by_hour.items():
        np.testing.assert_array_equal(final, strategy.values(x, np.full((30, 1), float(hour))))
