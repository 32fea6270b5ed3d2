"""The settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from core.errors import ConfigError

SCHEDULES: Mapping[str, Callable[[float], float]] = {  # share of the run that is done -> factor on every learning rate
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run.

    Args:
        epochs: At most so many passes.
        batch_size: Rows a step; of each member of an ensemble.
        learning_rate: Of the dense layers; `embedding_rate` of the tables (the same by default).
        optimiser: `adam` or `adagrad`.
        schedule: How the rates go on from there: `constant`, or `linear` or `cosine` down to 0 at the end of the last epoch; the
            last epochs are then often the best, so let `patience` be as many as `epochs`.
        weight_decay, embedding_decay: Decoupled decay of dense layers and of tables.
        patience: Epochs without a better validation score before stopping.
        monitor: What best means on the validation rows: `auc` (mean over binary tasks) or `loss`; over `monitor_tasks`, if given.
        balance: How the tasks' losses are combined; `balance_options` go to it, such as `{"weights": {"like": 2.0}}`.
        ranking: A term that compares rows of a group: `{"kind": "pairwise" or "listwise", "group": column, "strength": .1}`.
        regression: `mse` or `huber`; `scales` says by task whether its label is learned `standard` or `log1p`.
        precision: `float32`, `bfloat16` (matrix products only; weights, losses and optimiser stay float32), or `auto`: bfloat16
            where the processor multiplies it natively.
        average: Decay of a running average of the weights, which is what is validated and kept; 0 for none, .999 is usual.
        average_power: Until the decay bounds it, step t weighs t ** power in the average, which so lies 1 / (power + 2) of the
            steps back: a tenth for 8, a third for 1.
        evaluations: Validations an epoch; more than one lets a model stop within its first pass.
        auxiliary: Tasks that only help the others, with a factor on each one's loss: `{"follow": 0.2}`. They take no part in the
            choice of the epoch, and validation rows may lack their labels. All other tasks are main.
        alternate: A column: each batch holds rows of one of its values, so that tasks with data sets of their own take turns
            (`ranker.datasets` makes such a log). Empty: rows are mixed.
    """

    epochs: int = 10
    batch_size: int = 1024
    learning_rate: float = 1e-3
    embedding_rate: float | None = None
    optimiser: str = "adam"
    schedule: str = "constant"
    weight_decay: float = 0.0
    embedding_decay: float = 0.0
    patience: int = 2
    monitor: str = "auc"
    monitor_tasks: Sequence[str] = ()
    balance: str = "fixed"
    balance_options: Mapping[str, Any] = field(default_factory=dict)
    ranking: Mapping[str, Any] = field(default_factory=dict)
    regression: str = "mse"
    scales: Mapping[str, str] = field(default_factory=dict)
    precision: str = "auto"
    average: float = 0.0
    average_power: float = 8.0
    evaluations: int = 1
    auxiliary: Mapping[str, float] = field(default_factory=dict)
    alternate: str = ""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("patience", 1), ("evaluations", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"training setting {name} = {getattr(self, name)} must be at least {least}")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"training setting learning_rate = {self.learning_rate} must be above 0")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"training setting schedule = {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"training setting precision = {self.precision!r} is not one of auto, float32, bfloat16")
        if not 0 <= self.average < 1:
            raise ConfigError(f"training setting average = {self.average} must lie in [0, 1)")
        if not 0 <= self.average_power < float("inf"):
            raise ConfigError(f"training setting average_power = {self.average_power} must be at least 0")
        for task, factor in self.auxiliary.items():
            if not 0 <= factor < float("inf"):
                raise ConfigError(f"training setting auxiliary: factor {factor!r} of task {task!r} must be a number from 0")
        if self.monitor not in ("auc", "loss"):
            raise ConfigError(f"training setting monitor = {self.monitor!r} is not one of auc, loss")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainConfig:
        """From plain values; an unknown field is an error."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise ConfigError(f"unknown training setting {unknown[0]!r}; settings are {', '.join(known)}")
        return cls(**value)
