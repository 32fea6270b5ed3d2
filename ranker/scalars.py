"""A training run's losses, weights and metrics as TensorBoard scalars, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """A `watch` for `ranker.train.train`; a resumed run goes on in the same folder, and its repeated steps replace the old ones.

    Scalars: `score`, `train_loss/TASK`, `valid_loss/TASK`, `weight/TASK`, and `METRIC/TASK`; a step is a thousandth of an epoch.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: Any = None

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write one row of the history, to disk at once."""
        step = round(1000 * row["epoch"])
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter  # here: its import takes a second that few runs need

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        values = {"score": row["score"]}
        for name, key in (("train_loss", "loss"), ("valid_loss", "valid_loss"), ("weight", "weights")):
            values |= {f"{name}/{task}": value for task, value in row.get(key, {}).items()}
        for task, metrics in row["metrics"].items():
            values |= {f"{metric}/{task}": value for metric, value in metrics.items()}
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()
