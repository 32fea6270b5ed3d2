"""Optimisers: fused Adam for what every batch touches, and lazy row-wise updates for tables too large to sweep each step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.config import SCHEDULES
from ranker.models.base import MultiTaskModel

SPARSE_FROM = 2_000_000  # numbers in the tables; a sweep over more costs longer than the rest of a small model's step


class Rates(Protocol):
    """The settings it reads."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def embedding_rate(self) -> float | None: ...
    @property
    def optimiser(self) -> str: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def embedding_decay(self) -> float: ...


def make_optimisers(model: MultiTaskModel, extra: Sequence[nn.Parameter], config: Rates) -> list[torch.optim.Optimizer]:
    """Optimisers that together step every parameter of the model and the balancer's own."""
    tables = list(model.inputs.parameters())
    held = {id(p) for p in tables}
    dense = [p for p in model.parameters() if id(p) not in held] + list(extra)
    table_rate = config.embedding_rate if config.embedding_rate is not None else config.learning_rate
    dense_group = {"params": dense, "lr": config.learning_rate, "weight_decay": config.weight_decay}
    table_group = {"params": tables, "lr": table_rate, "weight_decay": config.embedding_decay}
    large = sum(p.numel() for p in tables) > SPARSE_FROM
    model.inputs.sparse = large
    if config.optimiser == "adagrad":
        if config.embedding_decay or large:
            table_group["weight_decay"] = 0.0
        return [torch.optim.Adagrad([dense_group, table_group], eps=1e-10)]
    if config.optimiser != "adam":
        raise ConfigError(f"training setting optimiser = {config.optimiser!r} is not one of adam, adagrad")
    if large:
        if config.embedding_decay:
            raise ConfigError(f"embedding_decay needs tables below {SPARSE_FROM} numbers; use drop or min_count on the features")
        return [torch.optim.AdamW([dense_group], fused=True), torch.optim.SparseAdam(tables, lr=table_rate)]
    return [torch.optim.AdamW([g for g in (dense_group, table_group) if g["params"]], fused=True)]


class Schedule:
    """Learning rates that fall over the whole run; a function of the step alone, so a resumed run has nothing to restore.

    Args:
        kind: A name of `ranker.config.SCHEDULES`.
        optimisers: Fresh ones: their rates are those of the first step.
        n_steps: All steps of the run, `epochs` times those of an epoch.

    >>> sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.8)
    >>> schedule = Schedule("linear", [sgd], n_steps=4)
    >>> [(schedule.at(step), sgd.param_groups[0]["lr"])[1] for step in range(4)]
    [0.8, 0.6000000000000001, 0.4, 0.2]
    """

    def __init__(self, kind: str, optimisers: Sequence[torch.optim.Optimizer], n_steps: int) -> None:
        self.factor, self.optimisers, self.n_steps = SCHEDULES[kind], optimisers, max(n_steps, 1)
        self.first = [[float(group["lr"]) for group in optimiser.param_groups] for optimiser in optimisers]

    def at(self, step: int) -> None:
        """Set the rates of one step, counted from 0 over all epochs."""
        factor = self.factor(min(step / self.n_steps, 1.0))
        for optimiser, rates in zip(self.optimisers, self.first, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor


class Average:
    """A running average of the weights: shadow = d shadow + (1 - d) weights, d = min(decay, (1 + t) / (2 + power + t)).

    While the second holds, step t weighs t ** power (polynomial-decay averaging, Shamir & Zhang 2013), so the average lies
    1 / (power + 2) of the steps back: half of them for the plain mean (power 0), a third for 1, a tenth for 8.
    """

    def __init__(self, model: nn.Module, decay: float, power: float = 8.0) -> None:
        self.decay, self.power, self.steps = decay, power, 0
        self.weights: list[Tensor] = list(model.parameters()) if decay else []
        self.shadow: list[Tensor] = [p.detach().clone() for p in self.weights]

    def update(self) -> None:
        """After each optimiser step."""
        if self.weights:
            self.steps += 1
            keep = min(self.decay, (1 + self.steps) / (2 + self.power + self.steps))
            with torch.no_grad():
                torch._foreach_lerp_(self.shadow, self.weights, 1 - keep)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the average inside, and its own weights again outside."""
        if self.weights:
            own = [p.detach().clone() for p in self.weights]
            with torch.no_grad():
                torch._foreach_copy_(self.weights, self.shadow)
        yield
        if self.weights:
            with torch.no_grad():
                torch._foreach_copy_(self.weights, own)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"steps": self.steps, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.steps, self.shadow = state["steps"], [t.clone() for t in state["shadow"]]
