"""DSSM: logit_k = s_k cos(u^k(context), v^k(item)) + b_k, two towers a task on shared embeddings (Huang et al., CIKM 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.experts import BatchedMLP
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class DSSM(MultiTaskModel):
    """User and item meet in the cosine only, so items can be indexed; options: `hidden`, `scale` (the first s_k)."""

    towered = False

    def build(self, hidden: Sequence[int] = (128, 64), scale: float = 5.0) -> int:
        """K user towers as one batched stack, and K item towers as another."""
        if not self.n_context or not self.n_item:
            raise ConfigError("dssm needs features of the user or request, and features of the item")
        for task in self.item_tasks:
            if task.kind == "multiclass":
                raise ConfigError(f"task {task.name!r} is multiclass; dssm gives one cosine a task, choose another model")
        self.user_tower = BatchedMLP(self.n_tasks, self.n_context, hidden[:-1], dropout=self.dropout, norm=self.norm)
        self.item_tower = BatchedMLP(self.n_tasks, self.n_item, hidden[:-1], dropout=self.dropout, norm=self.norm)
        widths = [[n, *hidden[:-1]][-1] for n in (self.n_context, self.n_item)]
        self.user_out = nn.Parameter(torch.randn(self.n_tasks, widths[0], hidden[-1]) * widths[0] ** -0.5)
        self.item_out = nn.Parameter(torch.randn(self.n_tasks, widths[1], hidden[-1]) * widths[1] ** -0.5)
        self.scale = nn.Parameter(torch.full((self.n_tasks,), scale))
        self.bias = nn.Parameter(torch.zeros(self.n_tasks))
        return hidden[-1]

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Nothing: the cosine is the logit."""
        raise ConfigError("dssm has no representation to build on; choose another base")

    def vectors(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """Unit vectors of the context `(K, 1 or B, H)` and of the items `(K, B, H)`."""
        k = self.n_tasks
        user = torch.bmm(self.user_tower(parts.context.expand(k, -1, -1)), self.user_out)
        item = torch.bmm(self.item_tower(parts.item.expand(k, -1, -1)), self.item_out)
        return F.normalize(user, dim=-1), F.normalize(item, dim=-1)

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Scaled cosines, `(B, K)`."""
        user, item = self.vectors(parts)
        return (user * item).sum(-1).T * self.scale + self.bias, {}
