"""OMoE: one gate for all tasks, f(x) = sum_i softmax(W x)_i f_i(x), y^k = t^k(f(x)) (Jacobs et al. 1991; Ma et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ranker.experts import Gates, InputExperts, mix
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class OMoE(MultiTaskModel):
    """Experts mixed by one gate; options: `n_experts`, `hidden`, `gate_hidden`."""

    grows = True

    def build(self, n_experts: int = 6, hidden: Sequence[int] = (128, 64), gate_hidden: int = 0) -> int:
        """Experts and the gate."""
        self.experts = InputExperts(n_experts, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        self.gates = Gates(1, n_experts, self.n_context, self.n_item, hidden=gate_hidden)
        return self.experts.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """f(x), `(1, B, H)`."""
        gate = notes.inspect["gate"] = self.gates(parts)  # (B, 1, E)
        return mix(gate, self.experts(parts))  # (1, B, H)

    def shared_layers(self) -> list[nn.Module]:
        """The experts' layers."""
        return [self.experts.first, *self.experts.rest.layers]
