"""Feature tables: Parquet columns of items and users, encoded once, looked up by id; unknown ids share one fallback row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from core.arrays import AnyArray, Columns, Ints
from core.errors import DataError

UNKNOWN_ID = -(2**53)  # an id no table holds: encoders read it as out of vocabulary
DENSE = "dense"
UNKNOWN_TEXT = "\x00unknown"
_DIRECT = 8  # a direct index may be this many times longer than the table


class Encoded(Protocol):
    """Rows ready for the ranker."""

    def take(self, rows: AnyArray) -> Any:
        """Some of the rows."""


class FeatureEncoder(Protocol):
    """What the tables ask of a ranker."""

    def encode(self, side: Any, columns: Columns, n: int | None = None, *, project: bool = True) -> Any:
        """Encode one side (`user`, `item`, `request`) of n rows; `project` prepares rows that many requests will use."""


class IdIndex:
    """Row of every item id; ids outside the table get `n`, the fallback row.

    >>> IdIndex(np.array([7, 3])).rows(np.array([3, 9, 7])).tolist()
    [1, 2, 0]
    """

    def __init__(self, ids: Ints) -> None:
        self.n = len(ids)
        self._direct: AnyArray | None = None
        low, high = (int(ids.min()), int(ids.max())) if self.n else (0, 0)
        if len(np.unique(ids)) != self.n:
            raise DataError("the item table holds an item_id twice; keep one row an item")
        if low >= 0 and high < _DIRECT * self.n + 1_000_000:
            self._direct = np.full(high + 2, self.n, np.int64)  # one entry more: everything above lands there
            self._direct[ids] = np.arange(self.n)
        else:
            self._order = np.argsort(ids, kind="stable")
            self._sorted = ids[self._order]

    def rows(self, ids: Ints) -> Ints:
        """Rows `[n]` of ids `[n]`."""
        if self._direct is not None:
            top = len(self._direct) - 1
            at = np.where((ids < 0) | (ids > top), top, ids)
            found: Ints = self._direct[at]
            return found
        if not self.n:
            return np.zeros(len(ids), np.int64)
        at = np.minimum(np.searchsorted(self._sorted, ids), self.n - 1)
        return np.where(self._sorted[at] == ids, self._order[at], self.n)


class FeatureTables:
    """Encoded item and user tables of one ranker: a `FeatureSource` in memory.

    Args:
        encoder: The ranker's own, so that serving encodes as training did.
        items: Columns with `item_id`. users: columns with `user_id` (numbers or text).
        request: Names of the request columns; a request that lacks one takes its fallback value.
        item_columns: Names of the item columns the ranker reads, for inline features.
        numeric: Names of the columns read as numbers; their fallback is the mean, that of ids an id nobody has.
        matrix: Encodes all item features at once from one inline column `dense` `[n, n_features]`, where they are all numbers.

    Raises:
        DataError: A table lacks its id, or a feature that the ranker reads.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        items: Columns,
        users: Columns,
        *,
        request: Sequence[str] = (),
        item_columns: Sequence[str] = (),
        numeric: Collection[str] = (),
        matrix: Callable[[AnyArray], Any] | None = None,
    ) -> None:
        self._matrix = matrix
        self._encoder = encoder
        item_ids = _ids("items", items, "item_id")
        if item_ids.dtype.kind not in "iu":
            raise DataError("column item_id of the item table must hold whole numbers")
        self._index = IdIndex(item_ids.astype(np.int64))
        self._columns = with_fallback(items, numeric)
        self._items = encoder.encode("item", self._columns)
        names = [str(user) for user in _ids("users", users, "user_id").tolist()]
        self._rows = {name: row for row, name in enumerate(names)}
        if len(self._rows) != len(names):
            raise DataError("the user table holds a user_id twice; keep one row a user")
        self._fallback_user = len(names)
        self._users = encoder.encode("user", with_fallback(users, numeric))
        self._unknown_user = self._users.take(np.array([len(names)]))
        self._request = tuple(request)
        self._request_cache: dict[tuple[Any, ...], Any] = {}
        self._item_columns = tuple(item_columns)

    @property
    def n_items(self) -> int:
        """Items in the table."""
        return self._index.n

    @property
    def n_users(self) -> int:
        """Users in the table."""
        return self._fallback_user

    def user(self, user_id: str) -> tuple[Any, bool]:
        """The user's encoded row; the fallback row for an unknown user."""
        row = self._rows.get(user_id)
        if row is None:
            return self._unknown_user, False
        return self._users.take(np.array([row])), True

    def request(self, scenario: str, context: Mapping[str, Any]) -> Any:
        """The request's encoded row; encoded once for every distinct combination of values."""
        if not self._request:
            return None
        key = tuple(scenario if name == "scenario" else context.get(name) for name in self._request)
        found = self._request_cache.get(key)
        if found is None:
            columns = {n: np.array([UNKNOWN_TEXT if v is None else v]) for n, v in zip(self._request, key, strict=True)}
            found = self._encoder.encode("request", columns, 1)
            if len(self._request_cache) > 10_000:
                self._request_cache.clear()
            self._request_cache[key] = found
        return found

    def items(self, ids: Ints) -> tuple[Any, int]:
        """The candidates' encoded rows, and how many of them are unknown."""
        rows = self._index.rows(ids)
        return self._items.take(rows), int(np.count_nonzero(rows == self._index.n))

    def inline(self, ids: Ints, columns: Mapping[str, Any]) -> Any:
        """Rows encoded from columns of the request; columns it did not send come from the table.

        A column `dense` `[n, n_features]` stands for all item features in the order of the feature spec.

        Raises:
            DataError: A column does not fit the ranker.
        """
        block = columns.get(DENSE)
        if block is not None and DENSE not in self._item_columns:
            if self._matrix is None:
                raise DataError(f"column {DENSE!r} needs a ranker that reads plain numbers only; send columns by name")
            return self._matrix(block)
        own: dict[str, AnyArray] = {"item_id": ids}
        missing = [name for name in self._item_columns if name not in columns and name != "item_id"]
        for name in missing:
            own[name] = self.column(name, ids)
        return self._encoder.encode("item", {**own, **columns}, len(ids), project=False)

    def column(self, name: str, ids: Ints) -> AnyArray:
        """Raw values of an item feature, for rules."""
        if name not in self._columns:
            raise DataError(f"no item feature {name!r}; features are {', '.join(sorted(self._columns))}")
        rows = self._index.rows(ids)
        values: AnyArray = self._columns[name][rows]
        return values


def with_fallback(columns: Columns, numeric: Collection[str] = ()) -> dict[str, AnyArray]:
    """The columns with one row more, which stands for everything unknown: mean numbers, unknown ids, empty lists."""
    grown = {}
    for name, column in columns.items():
        if name in numeric or column.dtype.kind == "f":
            column = np.asarray(column, np.float64 if column.dtype.kind in "iub" else column.dtype)
        elif column.dtype.kind in "iu":
            column = column.astype(np.int64)
        last: AnyArray
        if column.ndim == 2:
            last = fallback(column)[None]
        elif column.dtype == object:
            last = np.empty(1, object)
            last[0] = fallback(column)
        else:
            last = np.array([fallback(column)])
        grown[name] = np.concatenate([column, last])
    return grown


def fallback(column: AnyArray) -> Any:
    """The value of an unknown row.

    >>> fallback(np.array([1.0, 3.0])), fallback(np.array([4, 5])) == UNKNOWN_ID, fallback(np.array(["a"]))
    (2.0, True, '\\x00unknown')
    """
    if column.ndim == 2:
        return column.mean(0).astype(column.dtype) if len(column) else np.zeros(column.shape[1], column.dtype)
    if column.dtype.kind == "f":
        finite = column[np.isfinite(column)]
        return float(finite.mean()) if len(finite) else 0.0
    if column.dtype.kind in "iu":
        return UNKNOWN_ID
    if column.dtype.kind == "b":
        return False
    if column.dtype == object and len(column) and isinstance(column[0], np.ndarray | list | tuple):
        return np.zeros(0, np.asarray(column[0]).dtype)
    return UNKNOWN_TEXT


def _ids(table: str, columns: Columns, name: str) -> AnyArray:
    if name not in columns:
        raise DataError(f"the table {table} has no column {name}; columns are {', '.join(sorted(columns))}")
    return np.asarray(columns[name])
