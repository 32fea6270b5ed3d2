"""Opponent rows are laid beside ours exactly, or refused; printed AUCs are read as printed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.quality_opponents import align, parse_aucs
from core.errors import DataError


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
