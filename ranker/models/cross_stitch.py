"""Cross-stitch: after each layer of the tasks' networks, h~_k = sum_l alpha_kl h_l (Misra et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ranker.experts import BatchedMLP, InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class CrossStitch(MultiTaskModel):
    """A network a task on shared embeddings, stitched after each layer; options: `hidden`, `own` (alpha's first diagonal)."""

    def build(self, hidden: Sequence[int] = (128, 64), own: float = 0.9) -> int:
        """K networks side by side, and one alpha a layer, `own` on the diagonal and the rest shared out (identity for K = 1)."""
        k = self.n_tasks
        self.first = InputExperts(k, self.n_context, self.n_item, hidden[:1], dropout=self.dropout, norm=self.norm)
        self.rest = nn.ModuleList(BatchedMLP(k, a, [b], dropout=self.dropout, norm=self.norm) for a, b in pairwise(hidden))
        start = torch.full((k, k), (1 - own) / max(k - 1, 1)).fill_diagonal_(own if k > 1 else 1.0)
        self.alphas = nn.ParameterList(nn.Parameter(start.clone()) for _ in hidden)
        return hidden[-1]

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Stitched representations, `(K, B, H)`."""
        h = stitch(self.alphas[0], self.first(parts))  # (K, B, H1)
        for alpha, layer in zip(list(self.alphas)[1:], self.rest, strict=True):
            h = stitch(alpha, layer(h))  # (K, B, H)
        return h

    def shared_layers(self) -> list[nn.Module]:
        """All layers: each task's output reads every network."""
        stacks = [module for module in self.rest if isinstance(module, BatchedMLP)]
        return [self.first.first, *(layer for stack in stacks for layer in stack.layers)]


def stitch(alpha: Tensor, h: Tensor) -> Tensor:
    """h~_k = sum_l alpha_kl h_l: alpha `(K', K)`, h `(K, B, H)` to `(K', B, H)`."""
    k, rows, width = h.shape
    return (alpha @ h.reshape(k, rows * width)).view(-1, rows, width)
