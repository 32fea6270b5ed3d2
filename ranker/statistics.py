"""Chronological statistics: what was known about a user, an item or a tag before a moment, and nothing after it."""

from __future__ import annotations

import numpy as np

from core.arrays import AnyArray, Floats, Ints
from core.errors import DataError


def codes(*columns: AnyArray) -> Ints:
    """One whole number for each distinct combination of the columns' values, `[n]`.

    >>> codes(np.array(["a", "b", "a"]), np.array([1, 1, 1])).tolist()
    [0, 1, 0]
    """
    found = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values = column.astype(str) if column.dtype == object else column
        index = np.unique(values, return_inverse=True)[1].astype(np.int64)
        found = np.unique(found * (int(index.max(initial=0)) + 1) + index, return_inverse=True)[1].astype(np.int64)
    return found


def earlier_sums(key: Ints, time: AnyArray, values: Floats, until: AnyArray) -> tuple[Floats, Floats]:
    """For every row, the sum of `values` over the rows of the same key whose time lies strictly before `until`.

    Args:
        key, time, until: `[n]`; `until` is for instance the row's own time, or the start of its day.
        values: `[n, m]`.

    Returns:
        Sums `[n, m]` and how many rows they are of `[n]`.

    >>> sums, n = earlier_sums(np.array([7, 7, 7]), np.array([1, 2, 3]), np.array([[1.0], [0.0], [1.0]]), np.array([1, 2, 3]))
    >>> sums.ravel().tolist(), n.tolist()
    ([0.0, 1.0, 1.0], [0.0, 1.0, 2.0])
    """
    if not len(key) == len(time) == len(values) == len(until):
        raise DataError(
            f"key, time, values, until have {len(key)}, {len(time)}, {len(values)}, {len(until)} rows; they must agree"
        )
    moments = np.unique(time)
    base = len(moments) + 1
    dense = np.unique(key, return_inverse=True)[1].astype(np.int64)
    place = dense * base + np.searchsorted(moments, time)
    order = np.argsort(place, kind="stable")
    place = place[order]
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[order], 0)])
    start = np.searchsorted(place, dense * base)
    stop = np.searchsorted(place, dense * base + np.searchsorted(moments, until))
    return total[stop] - total[start], (stop - start).astype(float)


def smoothed_means(
    key: Ints, time: AnyArray, values: Floats, until: AnyArray, *, prior: Floats, strength: float = 20.0
) -> tuple[Floats, Floats]:
    """Means of earlier rows, drawn towards a prior: (sum + strength * prior) / (n + strength), `[n, m]`, with n `[n]`."""
    sums, n = earlier_sums(key, time, values, until)
    return (sums + strength * prior) / (n[:, None] + strength), n


def lifts(
    key: Ints, time: AnyArray, until: AnyArray, values: Floats, expected: Floats, *, strength: Floats
) -> tuple[Floats, Floats]:
    """How much more often than expected things happened in the key's earlier rows: (sum y + s) / (sum e + s), `[n, m]`; n `[n]`.

    With the overall mean p as the expectation of every row, p times the lift is the smoothed mean of strength s / p.

    Args:
        values, expected: y and e, `[n, m]`; e of a row must itself be known before the row.
        strength: s of each column, `[m]`, in expected events: how many of them speak for a lift of one.

    >>> key, day, ones = np.array([7, 7]), np.array([1, 2]), np.ones((2, 1))
    >>> lifts(key, day, day, ones, 0.5 * ones, strength=np.array([0.5]))[0].ravel().tolist()
    [1.0, 1.5]
    """
    both, n = earlier_sums(key, time, np.concatenate([values, expected], 1), until)
    m = values.shape[1]
    return (both[:, :m] + strength) / (both[:, m:] + strength), n


def best_strengths(
    key: Ints, time: AnyArray, until: AnyArray, values: Floats, expected: Floats, *, candidates: Floats, rows: AnyArray
) -> Floats:
    """For each column of 0/1 values, the candidate strength of `lifts` that foretells `rows` best (least log loss), `[m]`.

    Each row is foretold from earlier rows alone, e times its lift, so the choice needs no rows kept apart.
    """
    both, _ = earlier_sums(key, time, np.concatenate([values, expected], 1), until)
    m = values.shape[1]
    both, y, e = both[rows], values[rows], expected[rows]
    losses = []
    for s in candidates:
        p = np.clip(e * (both[:, :m] + s) / (both[:, m:] + s), 1e-5, 1 - 1e-3)
        losses.append(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(0))
    found: Floats = candidates[np.argmin(losses, 0)]
    return found


def latest_before(key: Ints, time: AnyArray, until: AnyArray) -> Ints:
    """For every row, the index of the newest row of the same key strictly before `until`, or -1.

    >>> latest_before(np.array([7, 8, 7]), np.array([1, 2, 3]), np.array([1, 2, 3])).tolist()
    [-1, -1, 0]
    """
    return earlier_rows(key, time, until, 1)[:, 0]


def earlier_rows(key: Ints, time: AnyArray, until: AnyArray, length: int) -> Ints:
    """For every row, indices of the newest `length` rows of the same key strictly before `until`, newest first, -1 beyond."""
    moments = np.unique(time)
    base = len(moments) + 1
    dense = np.unique(key, return_inverse=True)[1].astype(np.int64)
    place = dense * base + np.searchsorted(moments, time)
    order = np.argsort(place, kind="stable")
    place = place[order]
    start = np.searchsorted(place, dense * base)
    stop = np.searchsorted(place, dense * base + np.searchsorted(moments, until))
    at = stop[:, None] - 1 - np.arange(length)  # (n, length)
    return np.where(at >= start[:, None], order[np.maximum(at, 0)], -1)
