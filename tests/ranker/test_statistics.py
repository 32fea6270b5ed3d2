"""Chronological statistics know nothing of their own row or later ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranker.statistics import best_strengths, codes, earlier_rows, earlier_sums, lifts, smoothed_means

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


def test_lifts_by_hand() -> None:
    key, day = np.array([7, 7, 7, 8]), np.array([1, 1, 2, 2])
    y, e = np.array([[1.0], [0.0], [1.0], [1.0]]), np.array([[0.2], [0.3], [0.4], [0.4]])
    lift, n = lifts(key, day, day, y, e, strength=np.array([0.5]))
    assert np.allclose(lift.ravel(), [1, 1, (1 + 0.5) / (0.5 + 0.5), 1])  # the first day knows nothing, nor does key 8
    assert n.tolist() == [0, 0, 2, 0]


def test_against_the_overall_mean_a_lift_is_a_smoothed_mean() -> None:
    rng = np.random.default_rng(0)
    key, time, y = rng.integers(0, 5, 200), np.arange(200), (rng.random((200, 1)) < 0.3).astype(float)
    prior = np.array([0.3])
    mean, _ = smoothed_means(key, time, y, time, prior=prior, strength=20)
    lift, _ = lifts(key, time, time, y, np.full_like(y, 0.3), strength=20 * prior)
    assert np.allclose(mean, prior * lift)


@given(ROWS)
def test_a_changed_label_changes_the_lifts_of_later_rows_only(rows: list[tuple[int, int, int]]) -> None:
    key, time, label = (np.array(column) for column in zip(*rows, strict=True))
    values = label[:, None].astype(float)
    other = values.copy()
    other[0] += 1
    e = np.full_like(values, 0.5)
    a, b = (lifts(key, time, time, v, e, strength=np.array([1.0]))[0] for v in (values, other))
    assert np.array_equal((a != b).any(1), (time > time[0]) & (key == key[0]))


def test_strength_is_small_where_keys_differ_and_large_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    key = rng.integers(0, 50, 20_000)
    time = np.arange(len(key))
    apart, alike = rng.uniform(0.05, 0.95, 50)[key], np.full(len(key), 0.5)
    y = (rng.random((len(key), 2)) < np.stack([apart, alike], 1)).astype(float)
    candidates = np.array([0.1, 1.0, 10.0, 1000.0])
    found = best_strengths(key, time, time, y, np.full_like(y, 0.5), candidates=candidates, rows=time < 15_000)
    assert found[0] <= 1
    assert found[1] == 1000


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
