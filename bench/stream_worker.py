"""One streamed training run in a process of its own, whose peak memory is its own: `python -m bench.stream_worker N FOLDER`.

The last line is one JSON object: rows, the file's size, peak resident memory in MB, seconds, and the AUC of clicks on other rows.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from core.arrays import AnyArray
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.streaming import train_stream
from ranker.train import TrainConfig

GROUP = 100_000  # rows of a row group
N_USERS, N_ITEMS, N_DENSE = 1_000_000, 100_000, 6
SPEC = FeatureSpec(
    [
        Feature("user_id", side="user", min_count=2),
        Feature("item_id", min_count=2),
        Feature("hour", side="request", vocabulary="range", size=24),
        *(Feature(f"dense_{i}", "dense") for i in range(N_DENSE)),
    ],
    TaskSet([TaskSpec("click"), TaskSpec("like", sample_space="click"), TaskSpec("watch_s", "regression", unit_of_measure="s")]),
)


def rows(n: int, seed: int) -> dict[str, AnyArray]:
    """Random impressions whose click depends on item and numbers."""
    rng = np.random.default_rng(seed)
    item, dense = rng.zipf(1.3, n) % N_ITEMS, rng.normal(0, 1, (n, N_DENSE)).astype(np.float32)
    click = (rng.random(n) < 1 / (1 + np.exp(1 - dense[:, 0] - 0.3 * (item % 7 - 3)))).astype(np.int8)
    return {
        "user_id": rng.integers(0, N_USERS, n),
        "item_id": item,
        "hour": rng.integers(0, 24, n),
        **{f"dense_{i}": dense[:, i] for i in range(N_DENSE)},
        "click": click,
        "like": click * (rng.random(n) < 0.2).astype(np.int8),
        "watch_s": rng.exponential(10, n).astype(np.float32),
    }


def write(path: Path, n: int) -> None:
    """The file, a row group at a time."""
    writer: pq.ParquetWriter | None = None
    for start in range(0, n, GROUP):
        table = pa.table({name: pa.array(column) for name, column in rows(min(GROUP, n - start), start).items()})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Write, train one epoch, measure."""
    n, folder = int((argv or sys.argv[1:])[0]), Path((argv or sys.argv[1:])[1])
    path = folder / "log.parquet"
    write(path, n)
    valid = LoggedDataset(rows(20_000, n + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    trained = train_stream(SPEC, "mmoe", path=path, valid=valid, config=TrainConfig(epochs=1, batch_size=4096), progress=False)
    answer = {
        "rows": n,
        "file_mb": path.stat().st_size / 2**20,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mb": before,
        "seconds": time.perf_counter() - start,
        "click_auc": trained.metrics["click"]["auc"],
    }
    print(json.dumps(answer))
    return answer


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
