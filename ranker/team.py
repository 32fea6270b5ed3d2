"""The workers that train one model together: each sees its share of every batch, and all take the same step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist


@dataclass(frozen=True, slots=True)
class Team:
    """Which worker this is, and what the workers exchange over torch's process group; alone, nothing is exchanged.

    A loss is sum w l / sum w with both sums over all workers' rows, so that summed gradients are those of one process.

    >>> Team().sum(torch.tensor([2.0])).tolist()
    [2.0]
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Team:
        """The process group that this process has joined."""
        return cls(dist.get_rank(), dist.get_world_size())

    def sum(self, value: Tensor) -> Tensor:
        """The sum over workers, without a gradient."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def first(self, value: float) -> float:
        """The first worker's value, so that all decide alike."""
        return value if self.size == 1 else float(self.sum(torch.tensor(value if self.rank == 0 else 0.0, dtype=torch.float64)))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes the sum over workers: the dense ones in one message, a sparse one on its own."""
        if self.size == 1:
            return
        found = [p for p in parameters if p.grad is not None]
        dense = [p.grad for p in found if p.grad is not None and not p.grad.is_sparse]
        flat = torch.cat([grad.flatten() for grad in dense])
        dist.all_reduce(flat)
        for grad, part in zip(dense, torch.split(flat, [grad.numel() for grad in dense]), strict=True):
            grad.copy_(part.view_as(grad))
        for parameter in found:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                dist.all_reduce(parameter.grad)


ALONE = Team()
