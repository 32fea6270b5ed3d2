"""A task is one thing the ranker predicts; a task set is the ordered list that gives score columns their meaning."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from core.errors import ConfigError

Kind = Literal["binary", "regression", "multiclass"]
Level = Literal["item", "user"]
Goal = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One predicted behaviour.

    Args:
        name: An identifier; formulas, columns and JSON use it as it stands.
        kind: `binary` (a probability), `regression` (an expected value in `unit_of_measure`), `multiclass`.
        level: `item` (one value per candidate) or `user` (one per request).
        sample_space: A column whose positive rows are the only ones this task is trained on; all rows by default.
        goal: `up` when more of it should rank an item higher, `down` when lower.
        unit_of_measure: `probability` for binary tasks; for instance `s` for watch time.
        n_classes: Number of classes, multiclass only.

    Raises:
        ConfigError: A field is outside its values.
    """

    name: str
    kind: Kind = "binary"
    level: Level = "item"
    sample_space: str | None = None
    goal: Goal = "up"
    unit_of_measure: str = "probability"
    n_classes: int | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            raise ConfigError(f"task name {self.name!r} is not an identifier; use letters, digits and _")
        for field, value, choices in (
            ("kind", self.kind, get_args(Kind)),
            ("level", self.level, get_args(Level)),
            ("goal", self.goal, get_args(Goal)),
        ):
            if value not in choices:
                raise ConfigError(f"task {self.name!r}: {field} {value!r} is not one of {', '.join(choices)}")
        if (self.kind == "multiclass") != (self.n_classes is not None):
            raise ConfigError(f"task {self.name!r}: n_classes goes with kind multiclass, and only with it")
        if self.n_classes is not None and self.n_classes < 2:
            raise ConfigError(f"task {self.name!r}: n_classes {self.n_classes} must be at least 2")


class TaskSet(Sequence[TaskSpec]):
    """Tasks in the order of the score columns; names are unique.

    >>> TaskSet([TaskSpec("click"), TaskSpec("watch_s", "regression", unit_of_measure="s")]).names
    ('click', 'watch_s')
    """

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        self._tasks = tuple(tasks)
        self.names: tuple[str, ...] = tuple(task.name for task in self._tasks)
        if not self._tasks:
            raise ConfigError("no tasks; declare at least one")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise ConfigError(f"task {doubled[0]!r} is declared twice; names must be unique")

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[TaskSpec]:
        return iter(self._tasks)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key not in self.names:
                raise ConfigError(f"unknown task {key!r}; tasks are {', '.join(self.names)}")
            return self._tasks[self.names.index(key)]
        return self._tasks[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSet) and self._tasks == other._tasks

    def __hash__(self) -> int:
        return hash(self._tasks)

    def __repr__(self) -> str:
        return f"TaskSet({', '.join(self.names)})"

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the tasks that have one number per candidate: the columns of a score table."""
        return tuple(t.name for t in self._tasks if t.level == "item" and t.kind != "multiclass")

    def to_json(self) -> list[dict[str, Any]]:
        """The tasks as plain JSON values, for a manifest."""
        return [asdict(task) for task in self._tasks]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> TaskSet:
        """The inverse of `to_json`; unknown fields are an error."""
        known = set(TaskSpec.__dataclass_fields__)
        for row in rows:
            unknown = sorted(set(row) - known)
            if unknown:
                raise ConfigError(f"task {row.get('name')!r}: unknown field {unknown[0]!r}; fields are {sorted(known)}")
            if "name" not in row:
                raise ConfigError(f"task {dict(row)!r} has no name")
        return cls([TaskSpec(**row) for row in rows])
