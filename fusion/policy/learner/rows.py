"""Rows of the transition table as tensors: the columns stay memory maps, a batch is an index into them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from fusion.policy.networks import Standardise
from fusion.policy.transitions import Transitions

_COLUMNS = ("obs", "next_obs", "action", "reward", "rewards", "terminated", "baseline", "next_baseline", "box")
_CHUNK = 16384


class Rows:
    """The columns that learners read. `standardise` is fitted to the logged states."""

    def __init__(self, table: Transitions) -> None:
        if len(table) == 0:
            raise DataError("the transition table is empty; training needs at least one session")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.columns = {name: torch.from_numpy(np.asarray(getattr(table, name))) for name in _COLUMNS}
            self.session = torch.from_numpy(np.asarray(table.session))
        self.n = len(table)
        self.standardise = Standardise(table.n_obs)
        some = slice(None, None, max(1, self.n // 200_000))
        self.standardise.fit(self.columns["obs"][some])
        self.trace: Tensor | None = None  # [n, K], once lambda-returns are made

    def at(self, index: Tensor) -> dict[str, Tensor]:
        """A batch: the rows of `index`, states standardised, `terminated` as 0 or 1."""
        batch = {name: column.index_select(0, index) for name, column in self.columns.items()}
        batch["state"] = self.standardise(batch.pop("obs"))
        batch["next_state"] = self.standardise(batch.pop("next_obs"))
        batch["terminated"] = batch["terminated"].float()
        if self.trace is not None:
            batch["trace"] = self.trace.index_select(0, index)
        return batch

    def chunks(self) -> Iterator[dict[str, Tensor]]:
        """All rows in order, some thousands at a time."""
        for start in range(0, self.n, _CHUNK):
            yield self.at(torch.arange(start, min(start + _CHUNK, self.n)))
