"""Dynamic weight average: w_k = K softmax_k(r_k / T), r_k = L_k(t-1) / L_k(t-2) over epochs (Liu et al., CVPR 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.models.base import MultiTaskModel


class DWA(Fixed):
    """Tasks whose loss falls slowly weigh more; `temperature` T evens the weights out. Equal in the first two epochs."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, temperature: float = 2.0) -> None:
        super().__init__(tasks, model)
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"temperature = {temperature} must be a number above 0")
        self.temperature = temperature
        self.total, self.n = torch.zeros(len(tasks)), 0
        self.means: list[Tensor] = []  # of the last two epochs

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Backpropagate the weighted sum, and remember the losses."""
        super().backward(losses, aux)
        self.total = self.total + self.team.sum(losses.detach())
        self.n += 1

    def start_epoch(self, epoch: int) -> None:
        """Close the last epoch's means and set the weights."""
        if self.n:
            self.means = [*self.means, self.total / self.n][-2:]
            self.total, self.n = torch.zeros_like(self.total), 0
        if len(self.means) == 2:
            ratio = self.means[1] / self.means[0].clamp(min=1e-12)
            self.weight = len(self.tasks) * torch.softmax(ratio / self.temperature, 0)

    def state_dict(self) -> dict[str, Any]:
        """The means and the unfinished one."""
        return {"total": self.total, "n": self.n, "means": self.means, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.total, self.n, self.means, self.weight = state["total"], state["n"], list(state["means"]), state["weight"]
