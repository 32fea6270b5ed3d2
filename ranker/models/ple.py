"""PLE: stacked CGC, g^{k,j} = w^{k,j}(g^{k,j-1}) S^{k,j}(g^{k,j-1}, g^{s,j-1}) (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import BatchedLinear, BatchedMLP, InputExperts
from ranker.inputs import InputLinear, Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.cgc import blend


class PLE(MultiTaskModel):
    """Levels of specific and shared experts; options: `n_specific` (m_k), `n_shared` (m_s), `levels` (hidden widths of each).

    Below the last level a shared gate over ALL experts makes g^{s,j}, which the next level's shared experts and gate read.
    """

    def build(self, n_specific: int = 1, n_shared: int = 2, levels: Sequence[Sequence[int]] = ((128,), (64,))) -> int:
        """One stack of experts a level; the first reads the input, the others what the gates below made."""
        if not levels:
            raise ConfigError("levels = []: ple needs at least one level of experts")
        self.n_specific, self.n_shared = n_specific, n_shared
        k, mixed = self.n_tasks, n_specific + n_shared
        n = k * n_specific + n_shared
        self.n_all = [n] * (len(levels) - 1) + [0]  # logits of the shared gate; the last level has none
        self.first = InputExperts(n, self.n_context, self.n_item, levels[0], dropout=self.dropout, norm=self.norm)
        self.first_gates = InputLinear(self.n_context, self.n_item, k * mixed + self.n_all[0])
        widths = [level[-1] for level in levels]
        self.experts, self.gates, self.shared_gates = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for at, level in enumerate(levels[1:], 1):
            self.experts.append(BatchedMLP(n, widths[at - 1], level, dropout=self.dropout, norm=self.norm))
            self.gates.append(BatchedLinear(k, widths[at - 1], mixed))
            if self.n_all[at]:
                self.shared_gates.append(BatchedLinear(1, widths[at - 1], n))
        reads = [task for task in range(k) for _ in range(n_specific)] + [k] * n_shared  # whose g each expert reads
        self.reads: list[int] | None = reads if reads != list(range(k + 1)) else None
        return widths[-1]

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """g^{k,L}, `(K, B, H)`."""
        k, mixed = self.n_tasks, self.n_specific + self.n_shared
        experts = self.first(parts)  # (E, B, H)
        logits, shared_logits = torch.split(self.first_gates(parts), [k * mixed, self.n_all[0]], 1)  # (B, K M), (B, E)
        gate = notes.inspect["gate_1"] = torch.softmax(logits.reshape(-1, k, mixed), -1)  # (B, K, M)
        of_all = torch.softmax(shared_logits, 1)  # (B, E), none with one level
        for at, level in enumerate(self.experts):
            below = blend(gate, experts, self.n_specific, of_all)  # (K + 1, B, H)
            g, shared = torch.split(below, [k, 1])
            experts = level(below, self.reads)  # (E, B, H)
            gate = torch.softmax(self.gates[at](g).transpose(0, 1), -1)  # (B, K, M)
            notes.inspect[f"gate_{at + 2}"] = gate
            if self.n_all[at + 1]:
                of_all = torch.softmax(self.shared_gates[at](shared)[0], 1)
        return blend(gate, experts, self.n_specific)  # (K, B, H)

    def shared_layers(self) -> list[nn.Module]:
        """The layers of every level's stack, first to last."""
        stacks = [module for module in self.experts if isinstance(module, BatchedMLP)]
        return [self.first.first, *self.first.rest.layers, *(layer for stack in stacks for layer in stack.layers)]
