"""Per-task predictions for the candidates of one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from core.arrays import AnyArray, Floats
from core.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """What the ranker says about each candidate.

    Args:
        tasks: Names of the columns.
        values: `[n_items, n_tasks]`, finite: probabilities or expected values.
        user_values: User-level and multiclass predictions by task name, apart from the table.

    Raises:
        DataError: The shape does not fit the tasks.

    >>> ScoreTable(("click", "like"), np.array([[0.2, 0.1], [0.4, 0.3]]))["like"].tolist()
    [0.1, 0.3]
    """

    tasks: tuple[str, ...]
    values: Floats
    user_values: Mapping[str, AnyArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.tasks):
            raise DataError(f"scores have shape {self.values.shape}; {len(self.tasks)} tasks need [n_items, n_tasks]")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, task: str) -> Floats:
        """One task's column, `[n_items]`."""
        if task not in self.tasks:
            raise ConfigError(f"unknown task {task!r}; the scores hold {', '.join(self.tasks)}")
        return self.values[:, self.tasks.index(task)]

    @property
    def finite(self) -> bool:
        """Whether every score can be ranked."""
        return bool(np.isfinite(self.values).all())

    def take(self, rows: AnyArray) -> ScoreTable:
        """The same tasks for some of the candidates."""
        return ScoreTable(self.tasks, self.values[rows], self.user_values)
