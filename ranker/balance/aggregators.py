"""Gradient aggregation on the shared dense parameters only: MGDA, PCGrad, CAGrad, UPGrad, through torchjd.

The tasks' gradients g_k on the shared layers become sum_k w_k g_k with w from their Gramian; towers and embedding tables, where
conflicts cannot be told from rare ids, take the plain sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.balance.gradients import shared_parameters, task_gradients
from ranker.models.base import MultiTaskModel


class Aggregated(Fixed):
    """Subclasses name the weighting; `mean` says that its weights sum to about 1, and are brought to the scale of a sum."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, weighting: Callable[[Any], Tensor], *, mean: bool) -> None:
        super().__init__(tasks, model)
        self.weighting, self.mean = weighting, mean
        self.shared = shared_parameters(model)

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """The plain sum everywhere, then the shared layers' part replaced by the aggregated one."""
        gradients = task_gradients(losses, self.shared)  # (K, P)
        everybody = self.team.sum(gradients)
        reached = everybody.any(1)
        weight = torch.ones(len(losses))
        if reached.sum() > 1:
            rows = everybody[reached]
            weight[reached] = self.weighting(rows @ rows.T).float() * (len(rows) if self.mean else 1)
        self.weight = weight = self.team.sum(weight if self.team.rank == 0 else torch.zeros_like(weight))  # PCGrad draws an order
        shift = (weight - 1) @ gradients  # what this worker's part of the sum must change by
        total = losses.sum()
        torch.autograd.backward(total if aux is None else total + aux)
        at = 0
        for parameter in self.shared:
            part = shift[at : at + parameter.numel()].view_as(parameter)
            parameter.grad = part.clone() if parameter.grad is None else parameter.grad + part
            at += parameter.numel()


class MGDA(Aggregated):
    """The shortest vector in the gradients' hull, times K (Desideri 2012; Sener & Koltun, NeurIPS 2018)."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel) -> None:
        super().__init__(tasks, model, _weighting("MGDA"), mean=True)


class PCGrad(Aggregated):
    """Each gradient projected off those it conflicts with, summed (Yu et al., NeurIPS 2020)."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel) -> None:
        super().__init__(tasks, model, _weighting("PCGrad"), mean=False)


class CAGrad(Aggregated):
    """The best worst-task step within `c` of the mean, times K (Liu et al., NeurIPS 2021)."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, c: float = 0.5) -> None:
        super().__init__(tasks, model, _weighting("CAGrad", c=c), mean=True)


class UPGrad(Aggregated):
    """The mean of the gradients projected onto their dual cone, times K (Quinton & Rey 2024)."""

    def __init__(self, tasks: TaskSet, model: MultiTaskModel) -> None:
        super().__init__(tasks, model, _weighting("UPGrad"), mean=True)


def _weighting(name: str, **options: float) -> Callable[[Any], Tensor]:
    from torchjd import aggregation  # here: it brings solvers whose import takes longer than that of everything else

    made: Callable[[Any], Tensor] = getattr(aggregation, f"{name}Weighting")(**options)
    return made
