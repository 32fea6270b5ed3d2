"""MMoE: f^k(x) = sum_i g^k(x)_i f_i(x), g^k = softmax(W_k x) over E experts (Ma et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ranker.experts import Gates, InputExperts, mix
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class MMoE(MultiTaskModel):
    """Experts shared by all tasks, mixed by one gate a task; options: `n_experts`, `hidden`, `gate_hidden`."""

    grows = True

    def build(self, n_experts: int = 6, hidden: Sequence[int] = (128, 64), gate_hidden: int = 0) -> int:
        """Experts and gates; `gate_hidden` > 0 puts one hidden layer into each gate."""
        self.n_experts = n_experts
        self.experts = InputExperts(n_experts, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        self.gates = Gates(self.n_tasks, n_experts, self.n_context, self.n_item, hidden=gate_hidden)
        return self.experts.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Each task's mixture of experts, `(K, B, H)`."""
        gate = notes.inspect["gate"] = self.gates(parts)  # (B, K, E)
        return mix(gate, self.experts(parts))  # (K, B, H)

    def shared_layers(self) -> list[nn.Module]:
        """The experts' layers."""
        return [self.experts.first, *self.experts.rest.layers]
