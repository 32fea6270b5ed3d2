"""Multi-level MMoE: h_e^j = f_e^j(sum_i g^{e,j}(x)_i h_i^{j-1}), the last level mixed by task (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import BatchedMLP, Gates, InputExperts, mix
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class MultiLevelMMoE(MultiTaskModel):
    """MMoE levels on top of one another, all gates on the input; options: `n_experts`, `levels` (hidden widths of each)."""

    grows = True

    def build(self, n_experts: int = 4, levels: Sequence[Sequence[int]] = ((128,), (64,))) -> int:
        """Every expert of a higher level has a gate over the level below; every task one over the last."""
        if not levels:
            raise ConfigError("levels = []: ml_mmoe needs at least one level of experts")
        self.first = InputExperts(n_experts, self.n_context, self.n_item, levels[0], dropout=self.dropout, norm=self.norm)
        readers = [n_experts] * (len(levels) - 1) + [self.n_tasks]
        self.gates = nn.ModuleList(Gates(n, n_experts, self.n_context, self.n_item) for n in readers)
        self.experts = nn.ModuleList(
            BatchedMLP(n_experts, below[-1], level, dropout=self.dropout, norm=self.norm) for below, level in pairwise(levels)
        )
        return levels[-1][-1]

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Each task's mixture of the last level, `(K, B, H)`."""
        h = self.first(parts)  # (E, B, H1)
        for gates, level in zip(self.gates, self.experts, strict=False):
            h = level(mix(gates(parts), h))  # (E, B, H)
        gate = notes.inspect["gate"] = self.gates[-1](parts)  # (B, K, E)
        return mix(gate, h)  # (K, B, H)

    def shared_layers(self) -> list[nn.Module]:
        """The experts' layers, level by level."""
        stacks = [module for module in self.experts if isinstance(module, BatchedMLP)]
        return [self.first.first, *self.first.rest.layers, *(layer for stack in stacks for layer in stack.layers)]
