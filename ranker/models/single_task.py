"""Single task: y^k = t^k(f^k(x^k)), nothing shared, embeddings included; the baseline for the gain of learning tasks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.experts import InputExperts
from ranker.features import SIDES
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class SingleTask(MultiTaskModel):
    """A network for each task, trained side by side; options: `hidden`.

    Each id has one row that holds the K tasks' embeddings side by side, and a fixed zero mask lets network k read only its own.
    """

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """K embeddings in each row."""
        k = sum(task.level == "item" for task in tasks)
        return layout.resized(lambda dim: dim * k)

    def build(self, hidden: Sequence[int] = (128, 64)) -> int:
        """K bodies on masked input."""
        layout, k = self.layout, self.n_tasks
        owners: list[int] = []  # the task that owns each number of x; -1 where it is data, which all may read
        for side in SIDES:
            owners += [task for f in layout.embedded(side) for task in range(k) for _ in range(f.dim // k)]
            owners += [-1] * layout.n_dense(side)
        owner = torch.tensor(owners)[:, None]  # (D, 1)
        reader = torch.arange(k).repeat_interleave(hidden[0])[None]  # (1, K * H1)
        mask = ((owner == reader) | (owner < 0)).float()  # (D, K * H1)
        self.bodies = InputExperts(k, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm, mask=mask)
        return self.bodies.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """f^k(x^k), `(K, B, H)`."""
        h: Tensor = self.bodies(parts)
        return h
