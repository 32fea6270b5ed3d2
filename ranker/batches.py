"""Training rows as a few wide tensors: a batch is one gather from each, never a per-row collate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.arrays import AnyArray
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.encoder import Encoder, Layout, SideRows, id_order
from ranker.features import SIDES, Side
from ranker.targets import Scale, Targets


@dataclass(slots=True)
class Batch:
    """B rows of all sides.

    Args:
        ids: `(B, F)` int32 table rows, columns in the order of `id_order`.
        dense: `(B, D)` numbers, user then request then item.
        lists: By feature, `(B, L)` int32, 0 as padding.
        values, weights: Targets and their weights, `(B, K)`.
        group: What rows are compared within by a ranking term, `(B,)`; None without one.
        shares: How many rows are each ensemble member's, one after another; empty where every network reads all of them.
    """

    ids: Tensor
    dense: Tensor
    lists: Mapping[str, Tensor]
    values: Tensor
    weights: Tensor
    group: Tensor | None = None
    shares: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.ids.shape[0]

    def slice(self, start: int, stop: int) -> Batch:
        """Neighbouring rows, without a copy."""
        return Batch(
            self.ids[start:stop],
            self.dense[start:stop],
            {name: ids[start:stop] for name, ids in self.lists.items()},
            self.values[start:stop],
            self.weights[start:stop],
            None if self.group is None else self.group[start:stop],
        )

    def take(self, rows: Tensor) -> Batch:
        """Some of the rows."""
        return Batch(
            self.ids.index_select(0, rows),
            self.dense.index_select(0, rows),
            {name: ids.index_select(0, rows) for name, ids in self.lists.items()},
            self.values.index_select(0, rows),
            self.weights.index_select(0, rows),
            None if self.group is None else self.group.index_select(0, rows),
        )


class BatchSource(Protocol):
    """What the training loop reads: whole epochs of batches, the same ones for the same seed."""

    n_rows: int

    def steps(self, batch_size: int) -> int:
        """Batches an epoch."""

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """All rows once, in an order that only the seed decides."""


def pack(encoder: Encoder, log: LoggedDataset, scales: Mapping[str, Scale], tasks: TaskSet | None = None) -> Batch:
    """Encode a whole log; without `scales` for its labels, use `pack_inputs`."""
    inputs = pack_inputs(encoder, log)
    targets = Targets.make(log, tasks or encoder.spec.tasks, scales, encoder.spec.weight)
    return Batch(inputs.ids, inputs.dense, inputs.lists, torch.from_numpy(targets.values), torch.from_numpy(targets.weights))


def pack_inputs(encoder: Encoder, log: LoggedDataset) -> Batch:
    """Encode a whole log without labels."""
    return pack_sides(encoder, {side: encoder.encode(side, log.columns, len(log)) for side in SIDES})


def pack_sides(encoder: Encoder, sides: Mapping[Side, SideRows]) -> Batch:
    """Rows whose sides were encoded one by one, `n` of each."""
    n = len(sides["user"])
    order = id_order(encoder.layout)
    ids = np.concatenate([sides[side].ids[:, at : at + 1] for side, at in order], 1) if order else np.empty((n, 0), np.int32)
    dense = np.concatenate([sides[side].dense for side in SIDES], 1)
    lists = {name: torch.from_numpy(rows) for side in SIDES for name, rows in sides[side].lists.items()}
    empty = torch.empty((n, 0))
    return Batch(torch.from_numpy(np.ascontiguousarray(ids)), torch.from_numpy(np.ascontiguousarray(dense)), lists, empty, empty)


class MemoryBatches:
    """Batches of rows that are held in memory, shuffled anew each epoch.

    Args:
        rows: All rows.
        drop: Chance of each id column to be replaced by its unknown row, and those rows `(F,)`; None for no dropping.
    """

    def __init__(self, rows: Batch, drop: tuple[Tensor, Tensor] | None = None) -> None:
        self.rows, self.drop = rows, drop
        self.n_rows = len(rows)

    def steps(self, batch_size: int) -> int:
        """Full batches and a smaller last one."""
        return -(-self.n_rows // batch_size)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """Shuffled batches; the last one may be smaller."""
        generator = torch.Generator().manual_seed(seed)
        order = shuffled(self.rows, generator)
        for start in range(0, self.n_rows, batch_size):
            yield dropped(self.rows.take(order[start : start + batch_size]), self.drop, generator)


class ShardBatches:
    """One worker's share of the batches: its own rows, shuffled anew each epoch, in as many pieces as there are batches.

    Args:
        rows: This worker's rows, about as many as each of the others'.
        n_total: Rows of all workers, which says how many batches of the whole `batch_size` an epoch has.
        rank: Which worker it is, so that workers shuffle differently.
    """

    def __init__(self, rows: Batch, drop: tuple[Tensor, Tensor] | None, *, n_total: int, rank: int) -> None:
        self.rows, self.drop, self.n_rows, self.rank = rows, drop, n_total, rank

    def steps(self, batch_size: int) -> int:
        """Batches that all workers make together."""
        return -(-self.n_rows // batch_size)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """This worker's piece of every batch; pieces differ by at most one row."""
        n, steps = len(self.rows), self.steps(batch_size)
        generator = torch.Generator().manual_seed(seed + 7_919 * self.rank)
        order = shuffled(self.rows, generator)
        for step in range(steps):
            yield dropped(self.rows.take(order[step * n // steps : (step + 1) * n // steps]), self.drop, generator)


class AlternatingBatches:
    """Several sources in turn: each batch is of one of them, every row comes once an epoch, the order of turns is shuffled.

    Args:
        sources: Such as one `MemoryBatches` a data set; a larger one has more turns.
    """

    def __init__(self, sources: Sequence[BatchSource]) -> None:
        self.sources = tuple(sources)
        self.n_rows = sum(source.n_rows for source in self.sources)

    @classmethod
    def by(cls, column: AnyArray, rows: Batch, drop: tuple[Tensor, Tensor] | None = None) -> AlternatingBatches:
        """One source for each value of a column `[n]` of the rows."""
        found, index = np.unique(column, return_inverse=True)
        parts = (rows.take(torch.from_numpy(np.flatnonzero(index == at))) for at in range(len(found)))
        return cls([MemoryBatches(part, drop) for part in parts])

    def steps(self, batch_size: int) -> int:
        """The sources' batches together."""
        return sum(source.steps(batch_size) for source in self.sources)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """Each source in its own order, the first one's as if it were alone."""
        turns = torch.repeat_interleave(torch.tensor([source.steps(batch_size) for source in self.sources]))
        turns = turns[torch.randperm(len(turns), generator=torch.Generator().manual_seed(seed))]
        streams = [source.epoch(seed + 7_919 * at, batch_size) for at, source in enumerate(self.sources)]
        for turn in turns.tolist():
            yield next(streams[turn])


class StackedBatches:
    """A batch for each member of an ensemble, one after another: every member meets all rows, in an order of its own."""

    def __init__(self, source: BatchSource, n_members: int) -> None:
        self.source, self.n_members, self.n_rows = source, n_members, source.n_rows

    def steps(self, batch_size: int) -> int:
        """As many as for one network."""
        return self.source.steps(batch_size)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """`n_members` epochs side by side; groups of different members are different groups."""
        orders = [self.source.epoch(seed + 104_729 * member, batch_size) for member in range(self.n_members)]
        for parts in zip(*orders, strict=True):
            batch = concatenated(parts)
            batch.shares = tuple(len(part) for part in parts)
            if batch.group is not None:
                member = torch.repeat_interleave(torch.arange(self.n_members), torch.tensor(batch.shares))
                batch.group = batch.group * self.n_members + member
            yield batch


def shuffled(rows: Batch, generator: torch.Generator) -> Tensor:
    """An order of the rows `(n,)`; where they have groups, whole groups are shuffled and stay together."""
    if rows.group is None:
        return torch.randperm(len(rows), generator=generator)
    return torch.randperm(int(rows.group.max()) + 1, generator=generator)[rows.group].argsort(stable=True)


def dropping(layout: Layout) -> tuple[Tensor, Tensor] | None:
    """Chance and unknown row of each id column, when some feature declares `drop`."""
    features = [layout.sparse[side][at] for side, at in id_order(layout)]
    if not any(feature.drop for feature in features):
        return None
    unknown = [layout.offsets[feature.name] + 1 for feature in features]
    return torch.tensor([feature.drop for feature in features]), torch.tensor(unknown, dtype=torch.int32)


def dropped(batch: Batch, drop: tuple[Tensor, Tensor] | None, generator: torch.Generator) -> Batch:
    """The batch with some ids replaced by their unknown rows, as `dropping` says."""
    if drop is not None:
        chance, unknown = drop
        gone = torch.rand(batch.ids.shape, generator=generator) < chance
        batch.ids = torch.where(gone, unknown, batch.ids)
    return batch


def concatenated(parts: Sequence[Batch]) -> Batch:
    """Batches one after another; with groups where all have them."""
    groups = [part.group for part in parts if part.group is not None]
    return Batch(
        torch.cat([part.ids for part in parts]),
        torch.cat([part.dense for part in parts]),
        {name: torch.cat([part.lists[name] for part in parts]) for name in parts[0].lists},
        torch.cat([part.values for part in parts]),
        torch.cat([part.weights for part in parts]),
        torch.cat(groups) if len(groups) == len(parts) else None,
    )
