"""AESM^2: experts chosen automatically for each scenario and task, level by level (Zou et al., SIGIR 2022).

For level input z and group j (a scenario, or a task) with embedding e_j:
G[:, j] = S_j([z, e_j]) + eps softplus(N_j([z, e_j])), P = softmax over groups of G, specific experts of j = top-K_sp by
-KL(one-hot_j || P[k]) = log P[k, j], shared experts = top-K_sh by -KL(uniform || P[k]),
z_j = sum over both of softmax(G[., j])_k f_k(z).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.experts import BatchedMLP, InputExperts, mix
from ranker.inputs import InputLinear, Parts
from ranker.models.base import MultiTaskModel, Notes


class AESM2(MultiTaskModel):
    """Scenario levels, each row going on with its own scenario's output, then a task level with one output a task.

    Options: `scenarios` (sparse features, outermost first; by default the spec's scenario column), `n_experts`, `hidden`,
    `n_specific` (K_sp), `n_shared` (K_sh), `group_dim`, `noise`, and the small weights `concentration` and `load` of the
    auxiliary losses.
    """

    grows = True

    def build(
        self,
        scenarios: Sequence[str] | None = None,
        n_experts: int = 6,
        hidden: Sequence[int] = (128, 64),
        n_specific: int = 3,
        n_shared: int = 3,
        group_dim: int = 8,
        noise: bool = True,
        concentration: float = 1e-3,
        load: float = 1e-3,
    ) -> int:
        """One selection level a scenario feature, and one for the tasks."""
        for name, value in (("n_specific", n_specific), ("n_shared", n_shared)):
            if not 0 <= value <= n_experts:
                raise ConfigError(f"{name} = {value} must lie between 0 and n_experts = {n_experts}")
        if not n_specific + n_shared:
            raise ConfigError("n_specific and n_shared are both 0; a level needs at least one selected expert")
        if scenarios is None:
            scenarios = [
                f.name for f in self.layout.spec.features if f.column == self.layout.spec.scenario and f.kind == "sparse"
            ]
        self.scenarios = list(scenarios)
        self.levels = nn.ModuleList()
        self.unknown = [1 + self.layout.spec[name].oov for name in self.scenarios]  # rows for missing and unknown values
        known = [self.inputs.watch(name) - rows for name, rows in zip(self.scenarios, self.unknown, strict=True)]
        for n_groups in [*known, self.n_tasks]:
            first = not len(self.levels)
            gate: nn.Module = (
                InputLinear(self.n_context, self.n_item, n_groups * n_experts * (1 + noise))
                if first
                else nn.Linear(hidden[-1], n_groups * n_experts * (1 + noise))
            )
            experts: nn.Module = (
                InputExperts(n_experts, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
                if first
                else BatchedMLP(n_experts, hidden[-1], hidden, dropout=self.dropout, norm=self.norm)
            )
            if noise:  # the noise starts small beside the gate's own logits
                with torch.no_grad():
                    gate.get_parameter("bias").view(n_groups, 2, n_experts)[:, 1] = -2.0
            level = SelectionLevel(n_groups, n_experts, n_specific, n_shared, gate, experts, group_dim, noise)
            level.concentration, level.load = concentration, load
            self.levels.append(level)
        return hidden[-1]

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """z_j of every task, `(K, B, H)`."""
        z: Parts | Tensor = parts
        for name, rows, level in zip(self.scenarios, self.unknown, self.levels, strict=False):
            row = notes.inspect[f"scenario:{name}"] = parts.ids[name]  # (B,) or (1,)
            z = level(z, row - rows, notes, name)[0]  # (B, H)
        h: Tensor = self.levels[-1](z, None, notes, "task")  # (K, B, H)
        return h

    def shared_layers(self) -> list[nn.Module]:
        """The experts' layers of every level."""
        found: list[nn.Module] = []
        for level in self.levels:
            assert isinstance(level, SelectionLevel)
            stack = level.experts
            if isinstance(stack, InputExperts):
                found += [stack.first, *stack.rest.layers]
            elif isinstance(stack, BatchedMLP):
                found += list(stack.layers)
        return found


class SelectionLevel(nn.Module):
    """n experts, m groups; the gate's outputs are ordered by group, so that a new group is a new block at the end.

    A row of no known group (below 0) goes by the mean of all groups' logits.
    """

    def __init__(
        self,
        n_groups: int,
        n_experts: int,
        n_specific: int,
        n_shared: int,
        gate: nn.Module,
        experts: nn.Module,
        group_dim: int,
        noise: bool,
    ) -> None:
        super().__init__()
        self.n_groups, self.n_experts, self.n_specific, self.n_shared = n_groups, n_experts, n_specific, n_shared
        self.gate, self.experts, self.noise = gate, experts, noise
        self.concentration, self.load = 0.0, 0.0
        self.group = nn.Parameter(torch.randn(n_groups, 1, group_dim) * 0.01)  # e_j
        self.of_group = nn.Parameter(torch.randn(n_groups, group_dim, n_experts * (1 + noise)) * 0.1)

    def forward(self, z: Parts | Tensor, own: Tensor | None, notes: Notes, name: str) -> Tensor:
        """Outputs of the groups `(m, B, H)`; of the rows' own group alone, `(1, B, H)`, when `own` `(B,)` names it."""
        m, n = self.n_groups, self.n_experts
        of_group = torch.bmm(self.group, self.of_group).view(m, -1, n)  # (m, 1, n), or (m, 2, n) with noise
        raw = self.gate(z).view(-1, m, 1 + self.noise, n) + of_group  # (B, m, 1 or 2, n)
        logits = raw[:, :, 0]  # (B, m, n)
        if self.noise and self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(raw[:, :, 1])
        log_p = torch.log_softmax(logits, 1)  # (B, m, n): each expert's affinity to the groups
        common = log_p.mean(1, keepdim=True)  # (B, 1, n): -KL(uniform || P) - log m
        if own is not None:
            place = torch.where(own < 0, m, own).expand(logits.shape[0])
            at = place[:, None, None].expand(-1, 1, n)
            logits = torch.cat([logits, logits.mean(1, keepdim=True)], 1).gather(1, at)  # (B, 1, n)
            log_p = torch.cat([log_p, common], 1).gather(1, at)  # (B, 1, n)
        specific = self._top(log_p if m > 1 else logits, self.n_specific)  # (B, m, n): one group has no affinity to compare
        shared = self._top(common if m > 1 else logits, self.n_shared)  # (B, 1, n)
        chosen = specific | shared  # (B, m, n)
        weight = torch.softmax(logits.masked_fill(~chosen, float("-inf")), -1)  # (B, m, n)
        notes.inspect[f"gate:{name}"], notes.inspect[f"specific:{name}"] = weight, specific
        notes.inspect[f"shared:{name}"] = shared
        if self.training and (self.concentration or self.load):
            notes.aux.append(self._auxiliary(log_p, common, specific, shared, weight))
        stack = self.experts(z if isinstance(z, Parts) else z.expand(n, -1, -1))  # (n, B, H)
        return mix(weight, stack)  # (m, B, H)

    def _top(self, value: Tensor, n: int) -> Tensor:
        """The n largest experts of each row and group, as a mask."""
        index = value.detach().topk(n, -1).indices
        return torch.zeros_like(value, dtype=torch.bool).scatter(-1, index, True)

    def _auxiliary(self, log_p: Tensor, common: Tensor, specific: Tensor, shared: Tensor, weight: Tensor) -> Tensor:
        """Concentration, the KLs over the selected sets; and load, the squared coefficient of variation of gate mass."""
        rows = weight.shape[0]
        kl_specific = -(log_p * specific).sum() / rows
        kl_shared = (-(common + torch.log(torch.tensor(float(self.n_groups)))) * shared).sum() / rows
        mass = weight.mean((0, 1))  # (n,)
        load = mass.var(unbiased=False) / mass.mean() ** 2
        return self.concentration * (kl_specific + kl_shared) + self.load * load
