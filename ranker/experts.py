"""Batched layers: the experts of a level, or all tasks' towers, as one matmul; wide ones block by block in training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ranker.chain import chain, pays
from ranker.dropout import Dropout
from ranker.inputs import InputLinear, Parts
from ranker.mixtures import mixtures, pairs_pay


class BatchedLinear(nn.Module):
    """E linear layers side by side: (E, B, D) @ (E, D, H) + (E, 1, H) -> (E, B, H)."""

    def __init__(self, n: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n, 1, n_out))
        bound = n_in**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, h: Tensor) -> Tensor:
        """`(E, B, D)` to `(E, B, H)`."""
        return torch.baddbmm(self.bias, h, self.weight)


class BatchedMLP(nn.Module):
    """E multi-layer perceptrons side by side, ReLU after each layer, with optional dropout and layer-wise BatchNorm."""

    def __init__(self, n: int, n_in: int, hidden: Sequence[int], *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        widths = [n_in, *hidden]
        self.n, self.n_out, self.widest = n, widths[-1], max(hidden, default=0)
        self.layers = nn.ModuleList(BatchedLinear(n, a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(BatchedNorm(n, width) for width in hidden) if norm else None
        self.dropout = Dropout(dropout) if dropout else None

    def forward(self, h: Tensor, reads: Sequence[int] | None = None) -> Tensor:
        """`(E, B, D)` to `(E, B, H)`; `reads` says which of h's blocks each expert reads, where they are shared."""
        if self.widest and self.training and self.norms is None and pays(self.n, h.shape[1], self.widest):
            return chain(h, *self.stacked(), self.dropout.p if self.dropout is not None else 0.0, reads)
        h = h if reads is None else h[reads]
        for at, layer in enumerate(self.layers):
            h = layer(h)  # (E, B, H)
            if self.norms is not None:
                h = self.norms[at](h)
            h = h.relu_()
            if self.dropout is not None:
                h = self.dropout(h)
        return h

    def stacked(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights `(E, D, H)` and biases `(E, 1, H)` by layer."""
        layers = [layer for layer in self.layers if isinstance(layer, BatchedLinear)]
        return [layer.weight for layer in layers], [layer.bias for layer in layers]


class BatchedNorm(nn.Module):
    """BatchNorm over the rows of each of E blocks, `(E, B, H)`; off by default everywhere."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.n, self.width = n, width
        self.norm = nn.BatchNorm1d(n * width)

    def forward(self, h: Tensor) -> Tensor:
        """Normalise each block's columns."""
        n, rows, width = h.shape
        flat = h.transpose(0, 1).reshape(rows, n * width)  # (B, E * H)
        normed: Tensor = self.norm(flat)
        return normed.view(rows, n, width).transpose(0, 1)  # (E, B, H)


class InputExperts(nn.Module):
    """E experts on the input: the first layer of all of them is one `InputLinear`, the rest one batched matmul a layer."""

    def __init__(
        self,
        n: int,
        n_context: int,
        n_item: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        norm: bool = False,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.n, self.width = n, hidden[0]
        self.first = InputLinear(n_context, n_item, n * hidden[0], mask=mask)
        self.norm = nn.BatchNorm1d(n * hidden[0]) if norm else None
        self.dropout = Dropout(dropout) if dropout else None
        self.rest = BatchedMLP(n, hidden[0], hidden[1:], dropout=dropout, norm=norm)
        self.n_out = hidden[-1]

    def forward(self, parts: Parts) -> Tensor:
        """`(E, B, H)`."""
        if self.training and self.norm is None and not parts.split and pays(self.n, len(parts.item), self.width):
            weights, biases = self.rest.stacked()
            first = self.first.masked.view(-1, self.n, self.width).transpose(0, 1)  # (E, D, H1)
            dropout = self.dropout.p if self.dropout is not None else 0.0
            return chain(parts.x, [first, *weights], [self.first.bias.view(self.n, 1, self.width), *biases], dropout)
        h = self.first(parts)  # (B, E * H1)
        if self.norm is not None:
            h = self.norm(h)
        h = h.relu_()
        if self.dropout is not None:
            h = self.dropout(h)
        h = h.view(-1, self.n, self.width).transpose(0, 1)  # (E, B, H1)
        if h.dtype == torch.bfloat16:
            h = h.contiguous()  # the backward product of strided bfloat16 rows is five times slower
        out: Tensor = self.rest(h)
        return out


def mix(gate: Tensor, experts: Tensor) -> Tensor:
    """Weighted sums of experts for every task: gate (B, K, E), experts (E, B, H) -> (K, B, H)."""
    if pairs_pay(experts):
        return mixtures(gate.unbind(1), experts, [range(len(experts))] * gate.shape[1])
    if not torch.is_autocast_enabled("cpu"):
        return torch.bmm(gate, experts.transpose(0, 1)).transpose(0, 1)
    with torch.autocast("cpu", enabled=False):  # B tiny products: converting them costs more than bfloat16 saves
        return torch.bmm(gate.float(), experts.float().transpose(0, 1)).transpose(0, 1)


class Gates(nn.Module):
    """One softmax over E experts for each of K readers, linear in the input or with one hidden layer: (B, K, E)."""

    def __init__(self, n_readers: int, n_experts: int, n_context: int, n_item: int, *, hidden: int = 0) -> None:
        super().__init__()
        self.n_readers, self.n_experts = n_readers, n_experts
        self.first: InputLinear | None = None
        self.deep: InputExperts | None = None
        if hidden:
            self.deep = InputExperts(n_readers, n_context, n_item, [hidden])
            self.out = BatchedLinear(n_readers, hidden, n_experts)
        else:
            self.first = InputLinear(n_context, n_item, n_readers * n_experts)

    def forward(self, parts: Parts) -> Tensor:
        """Gate weights, each row of each reader summing to one."""
        if self.first is not None:
            logits = self.first(parts).view(-1, self.n_readers, self.n_experts)  # (B, K, E)
        else:
            assert self.deep is not None
            logits = self.out(self.deep(parts)).transpose(0, 1)  # (B, K, E)
        return torch.softmax(logits, -1)
