"""GradNorm: task weights that even out training rates, read on the last SHARED layer (Chen et al., ICML 2018).

G_k = |grad_W w_k L_k|, r_k = (L_k / L_k(0)) / mean, and w descends sum_k |G_k - mean(G) r_k^alpha| with the target held fixed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.balance.gradients import shared_parameters, task_gradients
from ranker.models.base import MultiTaskModel

LEAST = 1e-3  # a weight never leaves the positive side


class GradNorm(Fixed):
    """Options: `alpha` (0 evens gradients, larger ones pull harder towards equal rates), `rate` of the weights' own descent.

    A task that does not reach the shared layers (a user-level one beside the bottom) keeps weight 1.
    """

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, alpha: float = 1.5, rate: float = 0.025) -> None:
        super().__init__(tasks, model)
        if alpha < 0 or rate <= 0:
            raise ConfigError(f"gradnorm: alpha = {alpha} must be at least 0, and rate = {rate} above 0")
        self.alpha, self.rate = alpha, rate
        self.layer = shared_parameters(model, last=True)
        self.first: Tensor | None = None

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Move the weights, then backpropagate the weighted sum."""
        norms = self.team.sum(task_gradients(losses, self.layer)).norm(dim=1)  # (K,): |grad_W L_k|
        now = self.team.sum(losses.detach())
        if self.first is None:
            self.first = now.clamp(min=1e-12)
        reached = norms > 0
        if reached.any():
            g = self.weight * norms  # (K,)
            rate = now / self.first
            target = g[reached].mean() * (rate / rate[reached].mean()) ** self.alpha
            slope = torch.sign(g - target) * norms / norms[reached].mean()  # d|G_k - target| / d w_k, free of the losses' unit
            moved = (self.weight - self.rate * slope).clamp(min=LEAST)
            moved = moved * reached.sum() / moved[reached].sum()  # the weights go on summing to the number of tasks
            self.weight = torch.where(reached, moved, self.weight)
        super().backward(losses, aux)

    def parameters(self) -> list[nn.Parameter]:
        """None: the weights have a descent of their own."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Weights and first losses."""
        return {"weight": self.weight, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.weight, self.first = state["weight"], state["first"]
