"""What every balancer is: losses of K tasks in, gradients on the parameters out."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from ranker.team import Team


class Balancer(Protocol):
    """Called once a step, after the forward pass and before the optimiser's step."""

    team: Team

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Leave the gradients of the step on the parameters, from the tasks' losses `(K,)` and the architecture's own loss."""

    def start_epoch(self, epoch: int) -> None:
        """Told before each epoch, from 0."""

    def parameters(self) -> list[nn.Parameter]:
        """Its own learned parameters, which the optimiser then steps too."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for an identical resume."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""

    def weights(self) -> dict[str, float]:
        """The tasks' current weights, for the training history; empty when there are none."""
