"""Pairs by hand, the weight of a group, and the objective that the weighted pairs stand for."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from fusion.learned.inputs import Inputs
from fusion.learned.rows import Rows, labelled, pairs
from fusion.search import Objective, mtf_gauc
from fusion.search.judged import Judged
from tests.fusion.conftest import make_log

ONE = Inputs(("click",), (1,), (True,))


def rows(relevance: list[float], groups: list[int]) -> Rows:
    n = len(relevance)
    return Rows(np.zeros((n, 1)), np.zeros((n, 0)), np.array(relevance), np.array(groups))


def test_pairs_by_hand() -> None:
    """Group one: 5 over 0 and 1 over 0 and 5 over 1, weights 5 : 1 : 4 of its 3 rows; group two is flat."""
    found = pairs(rows([0.0, 5.0, 1.0, 2.0, 2.0], [0, 3, 5]))
    got = {(int(a), int(b)): float(w) for a, b, w in zip(*found, strict=True)}
    assert got == pytest.approx({(1, 0): 1.5, (2, 0): 0.3, (1, 2): 1.2})


def test_every_group_with_pairs_weighs_its_rows() -> None:
    rng = np.random.default_rng(0)
    made = rows(list(rng.integers(0, 3, 130).astype(float)), [0, 2, 7, 40, 130])
    found = pairs(made)
    weight = np.bincount(np.searchsorted(made.groups, found.better, side="right") - 1, found.weight, 4)
    size = np.diff(made.groups)
    np.testing.assert_allclose(weight[weight > 0], size[weight > 0])
    assert (made.relevance[found.better] > made.relevance[found.worse]).all()


def test_with_one_reward_the_weighted_share_in_order_is_the_mtf_gauc() -> None:
    log = make_log(1500, n_users=200, seed=5)
    made = labelled(log, ONE, {"click": 3.0})
    assert np.diff(made.groups).max() > 24  # large groups are sampled, so near but not equal
    small = log.take(
        np.isin(
            log["user_id"],
            [u for u, n in zip(*np.unique(log["user_id"].astype(str), return_counts=True), strict=True) if n <= 24],
        )
    )
    made = labelled(small, ONE, {"click": 3.0})
    better, worse, weight = pairs(made)
    right = (made.x[better, 0] > made.x[worse, 0]) + 0.5 * (made.x[better, 0] == made.x[worse, 0])
    value = Judged(small["score_click"], small, Objective([mtf_gauc({"click": 3.0})])).value
    assert weight @ right / weight.sum() == pytest.approx(value, abs=1e-9)


def test_no_pair_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        pairs(rows([1.0, 1.0, 2.0], [0, 2, 3]))


def test_rows_with_an_unobserved_label_are_left_out() -> None:
    log = LoggedDataset(
        {"user_id": np.array([1, 1, 1]), "score_click": np.array([0.1, 0.2, 0.3]), "click": np.array([0.0, np.nan, 1.0])}
    )
    assert labelled(log, ONE, {"click": 2.0}).relevance.tolist() == [0.0, 2.0]
