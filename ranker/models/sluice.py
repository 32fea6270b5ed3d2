"""Sluice: alpha mixes subspaces of all tasks after each layer, beta mixes layers into the output (Ruder et al. 2017; AAAI 2019).

h~ = alpha [h_1,1 .. h_K,G], out_k = sum_l beta_kl h~_k^l, + orthogonality * sum over tasks and layers of ||G_1' G_2||_F^2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import BatchedLinear, BatchedMLP, InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.cross_stitch import stitch


class Sluice(MultiTaskModel):
    """Options: `hidden` (equal widths: layers are mixed), `subspaces` (G), `own` (alpha's first diagonal), `orthogonality`."""

    def build(self, hidden: Sequence[int] = (64, 64), subspaces: int = 2, own: float = 0.9, orthogonality: float = 1e-3) -> int:
        """K networks side by side, alpha `(K G, K G)` a layer, beta `(K, L)`."""
        width = hidden[0]
        if any(other != width for other in hidden) or width % subspaces:
            raise ConfigError(f"hidden = {list(hidden)}: sluice mixes layers, so widths are equal and divisible by {subspaces}")
        k, n = self.n_tasks, self.n_tasks * subspaces
        self.subspaces, self.orthogonality = subspaces, orthogonality
        self.first = InputExperts(k, self.n_context, self.n_item, [width], dropout=self.dropout, norm=self.norm)
        self.rest = nn.ModuleList(BatchedMLP(k, width, [width], dropout=self.dropout, norm=self.norm) for _ in hidden[1:])
        start = torch.full((n, n), (1 - own) / max(n - 1, 1)).fill_diagonal_(own if n > 1 else 1.0)
        self.alphas = nn.ParameterList(nn.Parameter(start.clone()) for _ in hidden)
        self.beta = nn.Parameter(torch.full((k, len(hidden)), 1 / len(hidden)))
        return width

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Mixed layers of each task, `(K, B, H)`."""
        if self.training and self.orthogonality:
            notes.aux.append(self.orthogonality * self.penalty())
        h = self._mix(self.alphas[0], self.first(parts))  # (K, B, H)
        out = self.beta[:, 0, None, None] * h
        for at, layer in enumerate(self.rest, 1):
            h = self._mix(self.alphas[at], layer(h))  # (K, B, H)
            out = out + self.beta[:, at, None, None] * h
        return out

    def penalty(self) -> Tensor:
        """sum ||G_i' G_j||_F^2 over pairs of subspaces, of each task's weights in each layer."""
        k, width = self.n_tasks, self.first.n_out
        first = self.first.first.weight.view(-1, k, width).transpose(0, 1)  # (K, D, H)
        later = [layer.weight for stack in self.rest for layer in stack.modules() if isinstance(layer, BatchedLinear)]
        total = first.new_zeros(())
        for weight in [first, *later]:
            gram = torch.bmm(weight.transpose(1, 2), weight)  # (K, H, H)
            part = torch.arange(width) // (width // self.subspaces)
            apart = part[:, None] < part[None]  # columns of different subspaces, each pair once
            total = total + gram[:, apart].square().sum()
        return total

    def shared_layers(self) -> list[nn.Module]:
        """All layers: each task's output reads every network."""
        stacks = [module for module in self.rest if isinstance(module, BatchedMLP)]
        return [self.first.first, *(layer for stack in stacks for layer in stack.layers)]

    def _mix(self, alpha: Tensor, h: Tensor) -> Tensor:
        k, rows, width = h.shape
        g = self.subspaces
        apart = h.view(k, rows, g, width // g).transpose(1, 2).reshape(k * g, rows, width // g)  # (K G, B, H / G)
        mixed = stitch(alpha, apart)
        return mixed.view(k, g, rows, width // g).transpose(1, 2).reshape(k, rows, width)  # (K, B, H)
