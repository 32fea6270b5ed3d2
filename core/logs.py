"""A logged dataset: equally long named columns, one row an impression, kept as numpy and stored as Parquet."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.arrays import AnyArray, Bools, Columns
from core.errors import DataError


class LoggedDataset:
    """Columns of impressions.

    The usual columns: `request_id`, `user_id`, `item_id`, `scenario`, `position` (from 1), `time_ms`; a label under its
    task's name; a logged prediction as `score_<task>`; `final`, `propensity`, `weight_<name>`; anything
    else is a feature. A column of lists (sequences, multi-hot) is an object array of numpy arrays.

    Raises:
        DataError: Columns differ in length.

    >>> log = LoggedDataset({"user_id": np.array([1, 1, 2]), "click": np.array([0, 1, 1])})
    >>> len(log), log.take(log["click"] == 1)["user_id"].tolist()
    (3, [1, 2])
    """

    def __init__(self, columns: Columns) -> None:
        self.columns: dict[str, AnyArray] = {name: np.asarray(column) for name, column in columns.items()}
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
            raise DataError(
                f"columns differ in length: {short!r} has {lengths[short]} rows, {long!r} has {lengths[long]}; "
                "a log has one value per column and impression"
            )
        self._n = next(iter(lengths.values()), 0)

    def __len__(self) -> int:
        return self._n

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> AnyArray:
        if name not in self.columns:
            raise DataError(f"no column {name!r} in the log; columns are {', '.join(sorted(self.columns))}")
        return self.columns[name]

    def require(self, names: Sequence[str]) -> LoggedDataset:
        """Itself, once every named column is there and the log has rows."""
        if len(self) == 0:
            raise DataError("the log is empty; it needs at least one impression")
        for name in names:
            self[name]
        return self

    def with_columns(self, columns: Columns) -> LoggedDataset:
        """A dataset with these columns added or replaced; the others are shared, not copied."""
        return LoggedDataset({**self.columns, **columns})

    def take(self, rows: AnyArray) -> LoggedDataset:
        """The rows given by a mask or by indices."""
        return LoggedDataset({name: column[rows] for name, column in self.columns.items()})

    def split_time(self, *cuts: Any, by: str = "time_ms") -> list[LoggedDataset]:
        """Parts `(-inf, c1], (c1, c2], ..., (cn, inf)` of column `by`, in the order of the cuts.

        >>> [len(part) for part in LoggedDataset({"date": np.array([1, 2, 2, 3])}).split_time(1, 2, by="date")]
        [1, 2, 1]
        """
        if list(cuts) != sorted(cuts):
            raise DataError(f"time cuts {cuts} must ascend")
        index = np.searchsorted(np.asarray(cuts), self[by], side="left")
        return [self.take(index == i) for i in range(len(cuts) + 1)]

    def split_groups(self, share: float, *, by: str = "user_id", seed: int = 0) -> tuple[LoggedDataset, LoggedDataset]:
        """Two parts that share no value of `by` (a user, a request); the second holds about `share` of the values."""
        if not 0 < share < 1:
            raise DataError(f"share {share} must lie between 0 and 1")
        values, index = np.unique(self[by], return_inverse=True)
        chosen: Bools = np.random.default_rng(seed).random(len(values)) < share
        return self.take(~chosen[index]), self.take(chosen[index])

    def fingerprint(self) -> str:
        """A sha256 over names and values, the same for the same data in the same order."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            column = self.columns[name]
            digest.update(f"{name}:{column.dtype.kind}:{len(column)};".encode())
            if column.dtype.kind in "OUST":
                for value in column:
                    part = _bytes(value)
                    digest.update(len(part).to_bytes(8, "little") + part)
            else:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def to_arrow(self) -> pa.Table:
        """The same columns as an Arrow table; an object column becomes a list or a string column."""
        return pa.table({name: _to_arrow(column) for name, column in self.columns.items()})

    @classmethod
    def from_arrow(cls, table: pa.Table) -> LoggedDataset:
        """Columns of an Arrow table; nulls in numbers become NaN, and text becomes an object array of str."""
        return cls({name: _from_arrow(table.column(name)) for name in table.column_names})

    def to_parquet(self, path: str | Path) -> Path:
        """Write all rows to one file, which appears whole or not at all."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            pq.write_table(self.to_arrow(), partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target

    @classmethod
    def from_parquet(cls, path: str | Path, columns: Sequence[str] | None = None) -> LoggedDataset:
        """Read a Parquet file, or all the Parquet files of a folder in the order of their names."""
        source = Path(path)
        files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not files or not all(file.is_file() for file in files):
            raise DataError(f"no Parquet file at {str(source)!r}; give a .parquet file or a folder of them")
        try:
            tables = [pq.read_table(file, columns=list(columns) if columns else None) for file in files]
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{str(source)!r} is not readable Parquet: {error}") from error
        return cls.from_arrow(pa.concat_tables(tables, promote_options="default"))


def _bytes(value: Any) -> bytes:
    """One entry's value as bytes, the same in every process."""
    if not isinstance(value, np.ndarray):
        return str(value).encode()
    return repr(value.tolist()).encode() if value.dtype.kind == "O" else value.tobytes()  # an object array's bytes are addresses


def _to_arrow(column: AnyArray) -> pa.Array:
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
    return pa.array(column)


def _from_arrow(column: pa.ChunkedArray) -> AnyArray:
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat).reshape(len(column), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        chunk = column.combine_chunks()
        if isinstance(chunk, pa.ChunkedArray):
            chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], kind)
        offsets = np.asarray(chunk.offsets)
        values = chunk.values.to_numpy(zero_copy_only=False)
        lists = np.empty(len(chunk), dtype=object)
        for row in range(len(chunk)):
            lists[row] = values[offsets[row] : offsets[row + 1]]
        return lists
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return np.asarray(column.to_numpy())
