"""Ids become rows: known ones their own, unknown ones a shared one, missing ones row 0, and growth moves nobody."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from ranker.features import Feature
from ranker.vocabulary import Vocabulary, as_keys, hash_ids


def test_rows_by_hand() -> None:
    vocabulary = Vocabulary.fit(Feature("a", oov=2), np.array([30, 10, 10, 20]))
    assert vocabulary.n_rows == 1 + 2 + 3
    assert vocabulary.encode(np.array([10, 20, 30])).tolist() == [3, 4, 5]
    assert set(vocabulary.encode(np.arange(100, 200)).tolist()) == {1, 2}


def test_rare_ids_and_beyond_size_share_the_unknown_row() -> None:
    values = np.array(["a", "a", "a", "b", "b", "c"])
    assert Vocabulary.fit(Feature("x", min_count=2), values).encode(np.array(["a", "b", "c"])).tolist() == [2, 3, 1]
    assert Vocabulary.fit(Feature("x", size=1), values).encode(np.array(["a", "b", "c"])).tolist() == [2, 1, 1]


def test_missing_is_row_zero() -> None:
    vocabulary = Vocabulary.fit(Feature("x"), np.array(["a", None, "b"], object))
    assert vocabulary.encode(np.array([None, "b"], object)).tolist() == [0, 3]
    numbers = Vocabulary.fit(Feature("x"), np.array([1.0, np.nan, 2.0]))
    assert numbers.encode(np.array([np.nan, 2.0])).tolist() == [0, 3]
    assert numbers.encode(np.array([1, 2])).tolist() == [2, 3]


def test_numbers_as_text_are_the_same_ids() -> None:
    vocabulary = Vocabulary.fit(Feature("user_id"), np.array([7, 8]))
    assert vocabulary.encode(np.array(["8", "7", "u-9"])).tolist() == [3, 2, 1]


def test_a_fraction_is_no_id() -> None:
    with pytest.raises(DataError, match=r"a fraction, 0\.5"):
        as_keys(np.array([1.0, 0.5]))


@given(st.lists(st.integers(-(10**12), 10**12), max_size=30), st.lists(st.integers(-(10**12), 10**12), max_size=30))
def test_growth_keeps_old_rows_and_gives_new_ids_their_own(old: list[int], new: list[int]) -> None:
    before = Vocabulary.fit(Feature("a"), np.array(old, np.int64))
    after = before.grow(np.array(new, np.int64))
    assert np.array_equal(before.encode(np.array(old, np.int64)), after.encode(np.array(old, np.int64)))
    everyone = np.array(sorted(set(old) | set(new)), np.int64)
    assert len(set(after.encode(everyone).tolist())) == len(everyone)
    assert after.n_rows == 2 + len(everyone)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=50), st.integers(1, 1000))
def test_hashes_stay_inside(ids: list[int], n: int) -> None:
    rows = hash_ids(np.array(ids, np.int64), n)
    assert rows.min() >= 0
    assert rows.max() < n


def test_hashes_spread() -> None:
    counts = np.bincount(hash_ids(np.arange(100_000), 100), minlength=100)
    assert counts.min() > 800
    assert counts.max() < 1200


@pytest.mark.parametrize("values", [np.array([5, 3]), np.array(["x", "y"])])
def test_state_round_trip(values: np.ndarray) -> None:
    vocabulary = Vocabulary.fit(Feature("a"), values)
    again = Vocabulary.from_state(*vocabulary.to_state())
    assert np.array_equal(again.encode(values), vocabulary.encode(values))
