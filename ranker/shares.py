"""A log shared out among workers: a group that a ranking term compares stays with one; each gets some rows of every source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.arrays import Ints
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.batches import AlternatingBatches, Batch, BatchSource, ShardBatches
from ranker.config import TrainConfig
from ranker.ranking import RankingLoss

MARK = "shared_by"  # the column that travels with the rows: their group, or the source they come in turn with


@dataclass(frozen=True)
class Shares:
    """Who gets which rows.

    Args:
        order: All rows `[n]`, worker by worker.
        cuts: Where in `order` the second worker's rows begin, the third's, and so on.
        mark: Of each row of the log `[n]`, its group or source, counted from 0; None where rows stand for themselves.
        totals: Rows of all workers, one number a source that takes turns.
    """

    order: Ints
    cuts: tuple[int, ...]
    mark: Ints | None
    totals: tuple[int, ...]

    @classmethod
    def of(cls, log: LoggedDataset, tasks: TaskSet, config: TrainConfig, n_workers: int) -> Shares:
        """Shares of about the same size.

        Raises:
            ConfigError: There are too few groups, or too few rows of a source, for every worker to get some.
        """
        if config.ranking:
            return cls._in_groups(log, RankingLoss(config.ranking, tasks.scored, tasks.names).group, n_workers)
        if config.alternate:
            return cls._in_turns(log, config.alternate, n_workers)
        n = len(log)
        return cls(np.arange(n), tuple(n * at // n_workers for at in range(1, n_workers)), None, (n,))

    @classmethod
    def _in_groups(cls, log: LoggedDataset, column: str, n_workers: int) -> Shares:
        group = np.unique(log[column], return_inverse=True)[1]
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        wanted = [len(log) * at // n_workers for at in range(1, n_workers)]
        cuts = np.r_[starts, len(log)][np.searchsorted(starts, wanted)].tolist()
        if (np.diff([0, *cuts, len(log)]) == 0).any():
            raise ConfigError(
                f"ranking group {column!r}: its {len(starts)} groups leave some of {n_workers} workers without rows; "
                "take fewer workers, or a column of smaller groups"
            )
        return cls(order, tuple(cuts), group, (len(log),))

    @classmethod
    def _in_turns(cls, log: LoggedDataset, column: str, n_workers: int) -> Shares:
        values, source = np.unique(log[column], return_inverse=True)
        rows = [np.flatnonzero(source == at) for at in range(len(values))]
        for value, own in zip(values.tolist(), rows, strict=True):
            if len(own) < n_workers:
                raise ConfigError(
                    f"alternate {column!r}: {len(own)} rows of {value!r} are fewer than {n_workers} workers; take fewer"
                )
        parts = [[own[len(own) * at // n_workers : len(own) * (at + 1) // n_workers] for own in rows] for at in range(n_workers)]
        sizes = np.cumsum([sum(map(len, part)) for part in parts])
        order = np.concatenate([piece for part in parts for piece in part])
        return cls(order, tuple(sizes[:-1].tolist()), source, tuple(map(len, rows)))


def worker_batches(
    rows: Batch, mark: Tensor | None, totals: Sequence[int], config: TrainConfig, drop: tuple[Tensor, Tensor] | None, rank: int
) -> BatchSource:
    """One worker's share of every batch, from its rows and their marks `[n]`, if they have any."""
    if mark is None:
        return ShardBatches(rows, drop, n_total=totals[0], rank=rank)
    if config.ranking:
        rows.group = torch.unique(mark, return_inverse=True)[1]
        return ShardBatches(rows, drop, n_total=totals[0], rank=rank)
    parts = (rows.take(torch.nonzero(mark == at)[:, 0]) for at in range(len(totals)))
    return AlternatingBatches(
        [ShardBatches(part, drop, n_total=total, rank=rank) for part, total in zip(parts, totals, strict=True)]
    )
