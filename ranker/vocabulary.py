"""Vocabularies: ids of any kind become rows of an embedding table; unknown ids share hashed rows, and new ids get new rows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import AnyArray, Ints
from core.errors import DataError
from ranker.features import Feature


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Rows of one feature: 0 for missing, 1..oov for unknown ids, then one row an id, in the order in which ids were met.

    Args:
        kind: `fit`, `hash` or `range`.
        oov: Number of rows that unknown ids share.
        size: Number of known rows.
        keys: Sorted known ids (`fit` only), int64 or str.
        rows: The row of each key.
    """

    kind: str
    oov: int
    size: int
    keys: AnyArray
    rows: Ints

    @property
    def n_rows(self) -> int:
        """Rows of the table, missing and unknown included."""
        return 1 + self.oov + self.size

    def encode(self, values: AnyArray) -> Ints:
        """The row of each value, `[n]`.

        >>> vocabulary = Vocabulary("fit", 1, 2, np.array([10, 20]), np.array([2, 3]))
        >>> vocabulary.encode(np.array([20, 10, 77])).tolist()
        [3, 2, 1]
        """
        keys, missing = as_keys(values, text=self.keys.dtype.kind == "U" if self.kind == "fit" else None)
        if self.kind == "hash":
            rows = 1 + self.oov + hash_ids(keys, self.size)
        elif self.kind == "range":
            known = (keys >= 0) & (keys < self.size)
            rows = np.where(known, 1 + self.oov + keys, 1 + hash_ids(keys, self.oov))
        else:
            rows = 1 + hash_ids(keys, self.oov) if self.oov > 1 else np.ones(len(keys), np.int64)
            if len(self.keys):
                at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
                rows = np.where(self.keys[at] == keys, self.rows[at], rows)
        if missing is not None:
            rows = np.where(missing, 0, rows)
        return rows.astype(np.int64, copy=False)

    def grow(self, values: AnyArray, min_count: int = 1) -> Vocabulary:
        """With a new row for each id of `values` that is met at least `min_count` times and not known; old rows stay."""
        if self.kind != "fit":
            return self
        keys, missing = as_keys(values, text=self.keys.dtype.kind == "U")
        found, count = np.unique(keys if missing is None else keys[~missing], return_counts=True)
        new = np.setdiff1d(found[count >= min_count], self.keys)
        all_keys = np.concatenate([self.keys, new])
        rows = np.concatenate([self.rows, self.n_rows + np.arange(len(new))])
        order = np.argsort(all_keys, kind="stable")
        return Vocabulary("fit", self.oov, self.size + len(new), all_keys[order], rows[order])

    @classmethod
    def fit(cls, feature: Feature, values: AnyArray) -> Vocabulary:
        """Learn the ids of the training rows, the most frequent `size` of them.

        Raises:
            DataError: The feature declares a range, and an id lies beyond it.
        """
        none = np.zeros(0, np.int64)
        if feature.vocabulary == "range":
            _refuse_beyond(feature, values)
        if feature.vocabulary != "fit":
            return cls(feature.vocabulary, feature.oov, int(feature.size or 0), none, none)
        keys, missing = as_keys(values)
        return cls.fit_counts(feature, *np.unique(keys if missing is None else keys[~missing], return_counts=True))

    @classmethod
    def fit_counts(cls, feature: Feature, found: AnyArray, count: Ints) -> Vocabulary:
        """The same from distinct ids in ascending order and how often each was met, as a stream counts them."""
        keep = count >= feature.min_count
        found, count = found[keep], count[keep]
        if feature.size is not None and len(found) > feature.size:
            found = np.sort(found[np.argsort(-count, kind="stable")[: feature.size]])
        return cls("fit", feature.oov, len(found), found, 1 + feature.oov + np.arange(len(found)))

    def to_state(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """JSON values and arrays to store; text keys go to JSON, since tensors hold numbers only."""
        text = self.keys.dtype.kind == "U"
        head = {"kind": self.kind, "oov": self.oov, "size": self.size, "text": self.keys.tolist() if text else None}
        return head, {"rows": self.rows} | ({} if text else {"keys": self.keys})

    @classmethod
    def from_state(cls, head: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> Vocabulary:
        """The inverse of `to_state`."""
        keys = np.array(head["text"], dtype=str) if head["text"] is not None else arrays["keys"]
        return cls(head["kind"], head["oov"], head["size"], keys, arrays["rows"])


def as_keys(values: AnyArray, *, text: bool | None = None) -> tuple[AnyArray, AnyArray | None]:
    """Ids as int64 or as text, with a mask of missing ones (None when all are there).

    Whole floats count as integers, since a column with a hole in it is read as floats. `text` is a known vocabulary's kind.

    >>> keys, missing = as_keys(np.array([3.0, np.nan]))
    >>> keys.tolist(), missing.tolist()
    ([3, 0], [False, True])
    """
    values = np.asarray(values)
    missing: AnyArray | None = None
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        whole = np.where(missing, 0, values)
        if not np.array_equal(whole, np.rint(whole)):
            raise DataError(
                f"a sparse feature holds a fraction, {whole[whole != np.rint(whole)][0]:g}; declare it dense, or give it bins"
            )
        values, missing = whole.astype(np.int64), missing if missing.any() else None
    elif values.dtype.kind in "biu":
        values = values.astype(np.int64, copy=False)
    else:
        if values.dtype.kind == "O":
            missing = np.array([v is None or v != v for v in values], bool)
            missing = missing if missing.any() else None
            if missing is not None:
                values = np.where(missing, "", values)
        values = values.astype(str)
    if text is True and values.dtype.kind != "U":
        values = values.astype(str)
    elif text is False and values.dtype.kind == "U":
        values = _to_ints(values)
    return values, missing


def hash_ids(keys: AnyArray, n: int) -> Ints:
    """A stable row 0..n-1 for each id, the same on every machine: splitmix64 for numbers, crc32 first for text.

    >>> hash_ids(np.array([1, 2, 3]), 10).tolist() == hash_ids(np.array([1, 2, 3]), 10).tolist()
    True
    """
    if keys.dtype.kind == "U":
        found, inverse = np.unique(keys, return_inverse=True)
        keys = np.array([zlib.crc32(key.encode()) for key in found], np.int64)[inverse]
    z = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(n)).astype(np.int64)


def _refuse_beyond(feature: Feature, values: AnyArray) -> None:
    """A training id outside a declared range is a wrong spec; an id met later shares the unknown row."""
    keys, missing = as_keys(values, text=False)
    outside = (keys < 0) | (keys >= int(feature.size or 0))
    outside = outside if missing is None else outside & ~missing
    if outside.any():
        raise DataError(
            f"feature {feature.name!r} holds the id {keys[outside][0]}, beyond its vocabulary 0..{int(feature.size or 0) - 1}; "
            "raise size, or use vocabulary fit or hash"
        )


def _to_ints(text: AnyArray) -> Ints:
    try:
        return text.astype(np.int64)
    except ValueError:  # an id that is no number cannot be known here: a value no file holds
        return np.array([int(t) if t.lstrip("-").isdigit() else np.iinfo(np.int64).min for t in text], np.int64)
