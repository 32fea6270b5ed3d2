"""Homoscedastic uncertainty: L = sum_k c_k exp(-s_k) L_k + s_k / 2, s_k = log sigma_k^2 learned (Kendall et al., CVPR 2018).

c_k is 1/2 for a regression (a Gaussian likelihood) and 1 for a classification (a scaled softmax).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.models.base import MultiTaskModel


class Uncertainty(Fixed):
    """A learned log variance a task, stepped by the run's optimiser."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel) -> None:
        super().__init__(tasks, model)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))
        self.scale = torch.tensor([0.5 if task.kind == "regression" else 1.0 for task in tasks])

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Backpropagate the negative log likelihood, to the network and to the variances."""
        prior = self.log_variance / (2 * self.team.size)  # each worker's share: gradients are summed over them
        total = (self.scale * torch.exp(-self.log_variance) * losses + prior).sum()
        torch.autograd.backward(total if aux is None else total + aux)

    def parameters(self) -> list[nn.Parameter]:
        """The log variances."""
        return [self.log_variance]

    def state_dict(self) -> dict[str, Any]:
        """The log variances."""
        return {"log_variance": self.log_variance.detach().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        with torch.no_grad():
            self.log_variance.copy_(state["log_variance"])

    def weights(self) -> dict[str, float]:
        """c_k exp(-s_k)."""
        now = (self.scale * torch.exp(-self.log_variance.detach())).tolist()
        return dict(zip(self.tasks.names, now, strict=True))
