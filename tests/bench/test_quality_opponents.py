"""Opponent rows are laid beside ours exactly, or refused; printed AUCs are read as printed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.quality_opponents import align, parse_aucs, single_objective
from core.arrays import auc
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.recipes import Recipe


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=30))
def test_rows_meet_their_own_twin_whatever_the_order(rows: list[tuple[int, int, int]]) -> None:
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    ours = [np.array([row[i] for row in rows]) for i in range(3)]
    theirs = [column[order] for column in ours]
    found = align(ours, theirs)
    assert sorted(found.tolist()) == list(range(len(rows)))
    for mine, other in zip(ours, theirs, strict=True):
        assert np.array_equal(mine, other[found])


def test_twins_pair_up_in_the_order_of_time() -> None:
    user, item = np.array([1, 2, 1, 1]), np.array([9, 9, 9, 9])
    assert align([user, item], [user, item]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("theirs", [[np.array([1, 2, 2])], [np.array([1, 2])]])
def test_other_rows_are_refused(theirs: list[np.ndarray[tuple[int], np.dtype[np.int64]]]) -> None:
    with pytest.raises(DataError, match="must judge the same rows"):
        align([np.array([1, 1, 2])], theirs)


def test_printed_aucs_are_read() -> None:
    text = "train 1 valid 2\ny_income50k      AUC 0.9563  trees 300\ny_never_married  AUC 0.9949  trees 100\n"
    assert parse_aucs(text) == {"y_income50k": 0.9563, "y_never_married": 0.9949}


def test_one_objective_follows_its_positives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    item = rng.integers(0, 10, 6000)
    columns = {
        "item_id": item,
        "kind": np.array(["odd" if i % 2 else "even" for i in item], dtype=object),
        "click": (rng.random(6000) < item / 12).astype(float),
        "like": np.zeros(6000),
        "follow": np.zeros(6000),
    }
    log = LoggedDataset(columns)
    spec = FeatureSpec([Feature("item_id"), Feature("kind")], TaskSet([TaskSpec("click")]))
    recipe = Recipe("tiny", spec, *(log.take(np.arange(a, a + 2000)) for a in (0, 2000, 4000)))
    score = single_objective(recipe, tmp_path / "score.npy")
    assert auc(recipe.test["click"] > 0, score) > 0.7
    assert np.array_equal(single_objective(recipe, tmp_path / "score.npy"), score)  # the kept answer
