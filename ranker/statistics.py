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
