"""Fixed weights: L = sum_k w_k L_k."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.models.base import MultiTaskModel
from ranker.team import ALONE, Team


class Fixed:
    """Constant weights, 1 unless given by task; the base of the others.

    `team` are the workers of the run: losses and gradients that a balancer compares are sums over all of them, so that every
    worker comes to the same weights.
    """

    team: Team = ALONE

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, weights: Mapping[str, float] | None = None) -> None:
        given = dict(weights or {})
        for name, weight in given.items():
            if name not in tasks.names:
                raise ConfigError(f"loss weight of unknown task {name!r}; tasks are {', '.join(tasks.names)}")
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"loss weight {weight!r} of task {name!r} must be a number from 0")
        self.tasks = tasks
        self.weight = torch.tensor([float(given.get(name, 1.0)) for name in tasks.names])

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Backpropagate the weighted sum."""
        total = losses @ self.weight
        torch.autograd.backward(total if aux is None else total + aux)

    def start_epoch(self, epoch: int) -> None:
        """Nothing changes with time."""

    def parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def weights(self) -> dict[str, float]:
        """The constants."""
        return dict(zip(self.tasks.names, self.weight.tolist(), strict=True))
