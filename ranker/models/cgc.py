"""CGC: S^k = [E_k,1..m_k; E_s,1..m_s], g^k = softmax(W_k x) S^k, y^k = t^k(g^k) (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranker.experts import InputExperts
from ranker.inputs import InputLinear, Parts
from ranker.mixtures import mixtures, pairs_pay
from ranker.models.base import MultiTaskModel, Notes


class CGC(MultiTaskModel):
    """Each task mixes its own experts and the shared ones; options: `n_specific` (m_k), `n_shared` (m_s), `hidden`."""

    def build(self, n_specific: int = 1, n_shared: int = 2, hidden: Sequence[int] = (128, 64)) -> int:
        """All experts of all tasks as one batched stack: K m_k specific ones, then m_s shared ones."""
        self.n_specific, self.n_shared = n_specific, n_shared
        n = self.n_tasks * n_specific + n_shared
        self.experts = InputExperts(n, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        self.gates = InputLinear(self.n_context, self.n_item, self.n_tasks * (n_specific + n_shared))
        return self.experts.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """g^k, `(K, B, H)`."""
        logits = self.gates(parts).view(-1, self.n_tasks, self.n_specific + self.n_shared)  # (B, K, M)
        gate = notes.inspect["gate"] = torch.softmax(logits, -1)  # (B, K, M)
        return blend(gate, self.experts(parts), self.n_specific)  # (K, B, H)

    def shared_layers(self) -> list[nn.Module]:
        """The stack holds shared and specific experts; its layers are shared as far as the gates say."""
        return [self.experts.first, *self.experts.rest.layers]


def blend(gate: Tensor, experts: Tensor, n_specific: int, of_all: Tensor | None = None) -> Tensor:
    """Mix own and shared experts: gate `(B, K, m_k + m_s)`, experts `(K m_k + m_s, B, H)` to `(K, B, H)`.

    Args:
        of_all: PLE's shared gate over all experts, `(B, E)`; its mixture is one more, `(K + 1, B, H)`.

    >>> experts = torch.tensor([[[1.0]], [[2.0]], [[10.0]]])  # task 0's, task 1's, the shared one
    >>> blend(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]), experts, n_specific=1).flatten().tolist()
    [1.0, 6.0]
    """
    rows, k, _ = gate.shape
    n = experts.shape[0]
    if pairs_pay(experts):
        shared_by = range(k * n_specific, n)
        reads = [[*range(task * n_specific, (task + 1) * n_specific), *shared_by] for task in range(k)]
        more = [of_all] if of_all is not None else []
        return mixtures([*gate.unbind(1), *more], experts, [*reads, *(range(n) for _ in more)])
    weight = gate.permute(1, 2, 0).unsqueeze(-1)  # (K, M, B, 1)
    n_shared = n - k * n_specific
    own, shared = torch.split(
        experts, [k * n_specific, n_shared]
    )  # a split's gradient is one copy, a slice's a full tensor of zeros
    of_own, of_shared = torch.split(weight, [n_specific, n_shared], 1)
    own = own.view(k, n_specific, rows, experts.shape[-1])  # (K, m_k, B, H)
    g = (of_own * own).sum(1) + (of_shared * shared).sum(1)  # (K, B, H)
    if of_all is None:
        return g
    return torch.cat([g, (of_all.T.unsqueeze(-1) * experts).sum(0, keepdim=True)])  # (K + 1, B, H)
