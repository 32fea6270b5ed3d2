"""PLE's loss weights: w_k(t) = w_k,0 gamma_k^t, t in epochs (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.models.base import MultiTaskModel


class Decay(Fixed):
    """Fixed weights that shrink or grow by a factor an epoch; `gamma` is one number, or one by task (1 where absent)."""

    def __init__(
        self,
        tasks: TaskSet,
        model: MultiTaskModel,
        weights: Mapping[str, float] | None = None,
        gamma: float | Mapping[str, float] = 0.9,
    ) -> None:
        super().__init__(tasks, model, weights)
        given = dict(gamma) if isinstance(gamma, Mapping) else dict.fromkeys(tasks.names, gamma)
        for name, factor in given.items():
            if name not in tasks.names:
                raise ConfigError(f"gamma of unknown task {name!r}; tasks are {', '.join(tasks.names)}")
            if not 0 < factor < float("inf"):
                raise ConfigError(f"gamma {factor!r} of task {name!r} must be a number above 0")
        self.start = self.weight
        self.gamma = torch.tensor([float(given.get(name, 1.0)) for name in tasks.names])

    def start_epoch(self, epoch: int) -> None:
        """The weights of this epoch, which only its number decides, so that a resumed run has them too."""
        self.weight = self.start * self.gamma**epoch
