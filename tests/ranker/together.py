"""What several workers read, step by step, in one process."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.batches import Batch, BatchSource, concatenated, dropping, pack
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.shares import Shares, worker_batches
from ranker.train import TrainConfig, fit_scales

GROUPS_APART = 1_000  # a worker's groups are counted from 0; in one process the second worker's must not meet the first's


def sources(spec: FeatureSpec, tasks: TaskSet, log: LoggedDataset, config: TrainConfig, n_workers: int) -> list[BatchSource]:
    """What each worker reads."""
    encoder = Encoder.fit(spec, log)
    scales = fit_scales(tasks, log, config)
    shares = Shares.of(log, tasks, config, n_workers)
    found = []
    for rank, mine in enumerate(np.split(shares.order, shares.cuts)):
        mark = None if shares.mark is None else torch.from_numpy(shares.mark[mine])
        rows = pack(encoder, log.take(mine), scales)
        found.append(worker_batches(rows, mark, shares.totals, config, dropping(encoder.layout), rank))
    return found


class Together:
    """All workers' pieces of each batch as one."""

    def __init__(self, parts: Sequence[BatchSource]) -> None:
        self.parts, self.n_rows = parts, sum(part.n_rows for part in parts)

    def steps(self, batch_size: int) -> int:
        return self.parts[0].steps(batch_size)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        for pieces in zip(*(part.epoch(seed, batch_size) for part in self.parts), strict=True):
            for at, piece in enumerate(pieces):
                piece.group = None if piece.group is None else piece.group + at * GROUPS_APART
            yield concatenated(pieces)
