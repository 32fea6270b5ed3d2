"""The fitted feature spec: columns become row numbers and standardised numbers, the same way in training and in serving."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.arrays import AnyArray, Columns, Floats32
from core.artefacts import Artefact, json_bytes, tensors
from core.errors import DataError
from core.logs import LoggedDataset
from ranker.features import SIDES, Feature, FeatureSpec, Side
from ranker.numbers import Numbers
from ranker.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every feature lies: what the input block and the models are built from.

    Embedding tables are fused: all features of one width share one table, each with its own range of rows; row 0 is padding.

    Args:
        sparse: By side, the sparse features in the order of the id columns, sorted by width.
        lists: By side, multi-hot and sequence features.
        dense: By side, dense features and how many numbers each gives.
        offsets: First row of each feature in the table of its width.
        rows: Number of rows of each feature.
        tables: Rows of each table, by width.
    """

    spec: FeatureSpec
    sparse: Mapping[Side, tuple[Feature, ...]]
    lists: Mapping[Side, tuple[Feature, ...]]
    dense: Mapping[Side, tuple[tuple[Feature, int], ...]]
    offsets: Mapping[str, int]
    rows: Mapping[str, int]
    tables: Mapping[int, int]

    def n_dense(self, side: Side) -> int:
        """Numbers of one side."""
        return sum(width for _, width in self.dense[side])

    def width(self, side: Side) -> int:
        """Numbers a side adds to the embedded input x (lists left to the model count nothing)."""
        return sum(f.dim for f in self.embedded(side)) + self.n_dense(side)

    def embedded(self, side: Side) -> list[Feature]:
        """Features whose embeddings are part of x, in its order; the numbers follow."""
        return [*self.sparse[side], *(f for f in self.lists[side] if f.pooling != "none")]

    def resized(self, width: Callable[[int], int]) -> Layout:
        """The same layout with other embedding widths; `width` must keep different widths different, and their order."""

        def change(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
            return tuple(replace(feature, dim=width(feature.dim)) for feature in features)

        return replace(
            self,
            sparse={side: change(self.sparse[side]) for side in SIDES},
            lists={side: change(self.lists[side]) for side in SIDES},
            tables={width(dim): rows for dim, rows in self.tables.items()},
        )


@dataclass(frozen=True, slots=True)
class SideRows:
    """One side of n rows, ready for the input block: ids `[n, F]` and lists `[n, L]` int32, numbers `[n, D]` float32."""

    ids: AnyArray
    dense: Floats32
    lists: Mapping[str, AnyArray]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: AnyArray | slice) -> SideRows:
        """Some of the rows."""
        return SideRows(self.ids[rows], self.dense[rows], {name: ids[rows] for name, ids in self.lists.items()})


class Encoder:
    """A feature spec with its vocabularies and statistics, learned from the training rows."""

    def __init__(self, spec: FeatureSpec, vocabularies: Mapping[str, Vocabulary], numbers: Mapping[str, Numbers]) -> None:
        self.spec = spec
        self.vocabularies = dict(vocabularies)
        self.numbers = dict(numbers)
        self.layout = _layout(spec, self.vocabularies, self.numbers)

    @classmethod
    def fit(cls, spec: FeatureSpec, log: LoggedDataset) -> Encoder:
        """Learn vocabularies and statistics.

        Raises:
            DataError: A column is missing, holds NaN where that is an error, or repeats a label.
        """
        log.require(spec.columns())
        _refuse_copied_labels(spec, log)
        vocabularies, numbers = {}, {}
        for feature in spec.features:
            column = log[feature.column]
            if feature.kind == "dense" or feature.bins:
                numbers[feature.name] = Numbers.fit(feature, column)
            if feature.bins:
                vocabularies[feature.name] = Vocabulary("range", feature.oov, feature.bins, *(np.zeros(0, np.int64),) * 2)
            elif feature.kind != "dense" and feature.shares is None:
                sharing = [log[f.column] for f in spec.features if f.shares == feature.name]
                pools = [open_lists(c) for c in (column, *sharing)]
                vocabularies[feature.name] = Vocabulary.fit(feature, np.concatenate(pools) if len(pools) > 1 else pools[0])
        return cls(spec, vocabularies, numbers)

    def grow(self, log: LoggedDataset) -> Encoder:
        """With rows for the ids of `log` that are new; statistics and old rows stay as they are."""
        grown = dict(self.vocabularies)
        for feature in self.spec.features:
            if feature.kind != "dense" and not feature.bins:
                owner = feature.shares or feature.name
                grown[owner] = grown[owner].grow(open_lists(log[feature.column]), self.spec[owner].min_count)
        return Encoder(self.spec, grown, self.numbers)

    def encode(self, side: Side, columns: Columns, n: int | None = None) -> SideRows:
        """Encode one side of n rows; `columns` may hold more than it needs.

        Raises:
            DataError: A column is missing, of another length, or holds NaN where that is an error.
        """
        layout = self.layout
        wanted = self.spec.side(side)
        for feature in wanted:
            if feature.column not in columns:
                raise DataError(f"feature {feature.name!r} needs column {feature.column!r}; given: {', '.join(sorted(columns))}")
        if n is None:
            n = len(columns[wanted[0].column]) if wanted else len(next(iter(columns.values()), ()))
        for feature in wanted:
            if len(columns[feature.column]) != n:
                raise DataError(f"column {feature.column!r} has {len(columns[feature.column])} rows; the others have {n}")
        ids = np.empty((n, len(layout.sparse[side])), np.int32)
        for at, feature in enumerate(layout.sparse[side]):
            ids[:, at] = layout.offsets[feature.name] + self._rows(feature, np.asarray(columns[feature.column]))
        dense = np.empty((n, layout.n_dense(side)), np.float32)
        start = 0
        for feature, width in layout.dense[side]:
            dense[:, start : start + width] = self.numbers[feature.name].encode(feature, columns[feature.column])
            start += width
        lists = {f.name: self._list(f, np.asarray(columns[f.column])) for f in layout.lists[side]}
        return SideRows(ids, dense, lists)

    def _rows(self, feature: Feature, values: AnyArray) -> AnyArray:
        if feature.bins:
            found = self.numbers[feature.name].bin(feature, values)
            return self.vocabularies[feature.name].encode(found)
        rows = self.vocabularies[feature.shares or feature.name].encode(values)
        if feature.missing == "error" and not rows.all():
            raise DataError(f"feature {feature.name!r} is missing in row {int(np.argmin(rows))}; fill it, or say missing: fill")
        return rows

    def _list(self, feature: Feature, values: AnyArray) -> AnyArray:
        """Rows of a list column as `[n, max_len]`, 0 where there is nothing; a sequence keeps its newest entries."""
        n, length = len(values), feature.max_len
        out = np.zeros((n, length), np.int32)
        if n == 0:
            return out
        vocabulary, offset = self.vocabularies[feature.shares or feature.name], self.layout.offsets[feature.name]
        if values.ndim == 2:
            values = values[:, -length:] if feature.kind == "sequence" else values[:, :length]
            flat = vocabulary.encode(values.ravel())
            out[:, : values.shape[1]] = np.where(flat > 0, flat + offset, 0).reshape(n, -1)
            return out
        kept_part = slice(-length, None) if feature.kind == "sequence" else slice(length)
        kept = [np.asarray(() if v is None else v)[kept_part] for v in values]
        sizes = np.fromiter((len(v) for v in kept), np.int64, n)
        if sizes.sum():
            rows = vocabulary.encode(np.concatenate([v for v in kept if len(v)]))
            row = np.repeat(np.arange(n), sizes)
            at = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            out[row, at] = np.where(rows > 0, rows + offset, 0)
        return out

    def to_files(self) -> dict[str, bytes]:
        """Content to publish: `encoder.json` and `encoder.safetensors`."""
        heads: dict[str, Any] = {"spec": self.spec.to_json(), "vocabularies": {}, "numbers": {}}
        arrays: dict[str, AnyArray] = {}
        for name, vocabulary in self.vocabularies.items():
            heads["vocabularies"][name], parts = vocabulary.to_state()
            arrays |= {f"{name}.{part}": array for part, array in parts.items()}
        for name, numbers in self.numbers.items():
            heads["numbers"][name] = numbers.to_json()
        return {"encoder.json": json_bytes(heads), "encoder.safetensors": tensors(arrays)}

    @classmethod
    def from_files(cls, heads: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> Encoder:
        """The inverse of `to_files`, from the JSON value and the arrays."""
        spec = FeatureSpec.from_json(heads["spec"])
        vocabularies = {}
        for name, head in heads["vocabularies"].items():
            parts = {part: arrays[f"{name}.{part}"] for part in ("rows", "keys") if f"{name}.{part}" in arrays}
            vocabularies[name] = Vocabulary.from_state(head, parts)
        return cls(spec, vocabularies, {name: Numbers.from_json(value) for name, value in heads["numbers"].items()})

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Encoder:
        """Read the two files of a published ranker."""
        return cls.from_files(json.loads(artefact.read("encoder.json")), artefact.read_tensors("encoder.safetensors"))


def id_order(layout: Layout) -> list[tuple[Side, int]]:
    """(side, column within the side) of each id column of a batch: by width first, so that one lookup reads each table."""
    columns = [(f.dim, s, side, at) for s, side in enumerate(SIDES) for at, f in enumerate(layout.sparse[side])]
    return [(side, at) for _, _, side, at in sorted(columns, key=lambda c: (c[0], c[1], c[3]))]


def _layout(spec: FeatureSpec, vocabularies: Mapping[str, Vocabulary], numbers: Mapping[str, Numbers]) -> Layout:
    sparse: dict[Side, tuple[Feature, ...]] = {}
    lists: dict[Side, tuple[Feature, ...]] = {}
    dense: dict[Side, tuple[tuple[Feature, int], ...]] = {}
    for side in SIDES:
        features = spec.side(side)
        sparse[side] = tuple(sorted((f for f in features if f.kind == "sparse"), key=lambda f: f.dim))
        lists[side] = tuple(f for f in features if f.listed)
        dense[side] = tuple((f, numbers[f.name].width(f)) for f in features if f.kind == "dense")
    offsets: dict[str, int] = {}
    rows: dict[str, int] = {}
    tables: dict[int, int] = {}
    owners: Sequence[Feature] = [f for f in spec.features if f.kind != "dense" and f.shares is None]
    for feature in owners:
        start = tables.get(feature.dim, 1)
        offsets[feature.name], rows[feature.name] = start, vocabularies[feature.name].n_rows
        tables[feature.dim] = start + rows[feature.name]
    for feature in spec.features:
        if feature.shares is not None:
            offsets[feature.name], rows[feature.name] = offsets[feature.shares], rows[feature.shares]
    return Layout(spec, sparse, lists, dense, offsets, rows, tables)


def open_lists(column: AnyArray) -> AnyArray:
    """All ids of a column, lists opened."""
    if column.ndim == 2:
        return column.ravel()
    if column.dtype == object and len(column) and isinstance(column[0], np.ndarray | list | tuple):
        parts = [np.asarray(v) for v in column if v is not None and len(v)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return column


def _refuse_copied_labels(spec: FeatureSpec, log: LoggedDataset) -> None:
    """A label under another name is the same leak: refuse a feature whose every value equals a label's."""
    for feature in spec.features:
        column = log[feature.column]
        for task in spec.tasks.names:
            if feature.listed or task not in log or column.dtype.kind not in "biuf" or log[task].dtype.kind not in "biuf":
                continue
            label = log[task]
            if len(np.unique(label[:1000])) > 1 and np.array_equal(column[:1000], label[:1000]) and np.array_equal(column, label):
                raise DataError(f"feature {feature.name!r} equals the label of task {task!r} in every row; it leaks, remove it")
