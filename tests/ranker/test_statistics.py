"""Chronological statistics know nothing of their own row or later ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranker.statistics import codes, earlier_rows, earlier_sums, smoothed_means

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=40)


@given(ROWS, st.integers(0, 5))
def test_sums_equal_a_plain_loop(rows: list[tuple[int, int, int]], delay: int) -> None:
    key, time, label = (np.array(column) for column in zip(*rows, strict=True))
    sums, n = earlier_sums(key, time, label[:, None].astype(float), time - delay)
    for i in range(len(rows)):
        before = (key == key[i]) & (time < time[i] - delay)
        assert n[i] == before.sum()
        assert sums[i, 0] == label[before].sum()


@given(ROWS)
def test_a_changed_label_changes_later_rows_only(rows: list[tuple[int, int, int]]) -> None:
    key, time, label = (np.array(column) for column in zip(*rows, strict=True))
    values = label[:, None].astype(float)
    other = values.copy()
    other[0] += 1
    a, b = (smoothed_means(key, time, v, time, prior=np.array([0.5]))[0] for v in (values, other))
    changed = (a != b).any(1)
    assert not changed[time <= time[0]].any()


@given(ROWS, st.integers(1, 4))
def test_earlier_rows_are_the_newest_before(rows: list[tuple[int, int, int]], length: int) -> None:
    key, time, _ = (np.array(column) for column in zip(*rows, strict=True))
    found = earlier_rows(key, time, time, length)
    for i in range(len(rows)):
        before = np.flatnonzero((key == key[i]) & (time < time[i]))
        kept = found[i][found[i] >= 0]
        assert len(kept) == min(length, len(before))
        assert sorted(time[kept], reverse=True) == sorted(time[before], reverse=True)[: len(kept)]


def test_codes_tell_combinations_apart() -> None:
    assert len(set(codes(np.array([1, 1, 2, 2]), np.array(["a", "b", "a", "b"])).tolist())) == 4
