"""Ranks and AUC agree with their definitions, group by group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.arrays import auc, average_ranks, gauc, group_aucs, segment_ranks

SCORES = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40)


def by_pairs(label: np.ndarray, score: np.ndarray) -> float:
    """AUC by its definition: the share of (positive, negative) pairs in the right order, ties one half."""
    difference = score[label][:, None] - score[~label][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean()) if difference.size else float("nan")


@given(SCORES)
def test_group_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, bool, int]]) -> None:
    group, label, score = (np.array(column) for column in zip(*rows, strict=True))
    groups, n, aucs = group_aucs(group, label.astype(bool), score.astype(float))
    for g, count, value in zip(groups, n, aucs, strict=True):
        mine = group == g
        assert count == mine.sum()
        np.testing.assert_allclose(value, by_pairs(label[mine].astype(bool), score[mine].astype(float)))


def test_ranks_by_hand() -> None:
    assert average_ranks(np.array([10.0, 20.0, 10.0, 5.0])).tolist() == [2.5, 4.0, 2.5, 1.0]
    assert segment_ranks(np.array([1, 0, 1]), np.array([1.0, 9.0, 1.0])).tolist() == [1.5, 1.0, 1.5]
    assert len(average_ranks(np.zeros(0))) == 0


def test_gauc_weights_groups_by_their_rows() -> None:
    group = np.array([0, 0, 1, 1, 1, 1, 2])
    label = np.array([1, 0, 1, 0, 0, 0, 1], bool)
    score = np.array([0.0, 1.0, 3.0, 0.0, 1.0, 2.0, 5.0])
    value, eligible = gauc(group, label, score)
    assert value == pytest.approx(4 / 6)  # AUC 0 on 2 rows, 1 on 4 rows, none on the last
    assert eligible == 2


def test_one_class_is_nan_not_a_number() -> None:
    assert np.isnan(auc(np.ones(3, bool), np.arange(3.0)))
    value, eligible = gauc(np.zeros(3, np.int64), np.ones(3, bool), np.arange(3.0))
    assert np.isnan(value)
    assert eligible == 0
