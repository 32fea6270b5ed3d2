"""A formula: checked once, evaluated often, with a declared answer to a non-finite result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from core.arrays import Floats, Ints
from core.errors import ConfigError, DataError
from core.scores import ScoreTable
from fusion.formula.grammar import parse
from fusion.formula.program import Frame, compile_tree
from fusion.formula.tree import Node, names

NonFinite = float | Literal["error"]


class Final(NamedTuple):
    """Final scores `[n]`, all finite, and how many of them the declared floor replaced."""

    values: Floats
    n_nonfinite: int


class Formula:
    """A combination of task scores that was parsed, never executed as code.

    Args:
        text, tasks, params, context: As for `Formula.parse`.
        nonfinite: What a NaN or infinite result becomes: `"error"` raises DataError, a number takes its place (and is counted).
            An item one of whose scores is not finite has no result, whatever the formula makes of it.

    >>> f = Formula.parse("a * log(click + b)", tasks=["click", "like"], params=["a", "b"])
    >>> f.final({"click": np.array([0.5, 1.0])}, {"a": 2.0, "b": 0.5}).values.round(3).tolist()
    [0.0, 0.811]
    >>> sorted(f.requires), f.n_params
    (['click'], 2)
    """

    def __init__(
        self,
        text: str,
        *,
        tasks: Sequence[str],
        params: Sequence[str] = (),
        context: Sequence[str] = (),
        nonfinite: NonFinite = "error",
    ) -> None:
        if nonfinite != "error" and not (isinstance(nonfinite, int | float) and np.isfinite(nonfinite)):
            raise ConfigError(f"nonfinite {nonfinite!r} must be 'error' or a finite number that takes the result's place")
        self.text = text
        self.tree: Node = parse(text, tasks=tasks, params=params, context=context)
        self.tasks = names(self.tree, "task")
        self.params = tuple(params)
        self.context = names(self.tree, "context")
        self.declared = {"tasks": list(tasks), "params": list(params), "context": list(context)}
        self.nonfinite = nonfinite
        self._closure = compile_tree(self.tree)

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        tasks: Sequence[str],
        params: Sequence[str] = (),
        context: Sequence[str] = (),
        nonfinite: NonFinite = "error",
    ) -> Formula:
        """Check a formula over these names; ConfigError says where it is wrong. See `fusion.formula.grammar`."""
        return cls(text, tasks=tasks, params=params, context=context, nonfinite=nonfinite)

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""
        return frozenset(self.tasks)

    @property
    def n_params(self) -> int:
        """How many free parameters it has."""
        return len(self.params)

    def final(
        self,
        scores: ScoreTable | Mapping[str, Any],
        params: Mapping[str, float] | None = None,
        context: Mapping[str, Any] | None = None,
        segments: Ints | None = None,
    ) -> Final:
        """Fuse.

        Args:
            scores: A score table, or columns `[n]` by task.
            params: A finite value for every parameter.
            context: A number (or a column `[n]`) for every context name the formula uses.
            segments: Request starts plus the end, `[n_requests + 1]`, when the rows hold several requests.

        Raises:
            ConfigError: A parameter or a task is missing.
            DataError: A context value is missing, or a result is not finite and the policy is `error`.
        """
        columns, n = self._columns(scores)
        frame = Frame(columns, self.check_params(params or {}), self._check_context(context or {}), n, segments)
        with np.errstate(all="ignore"):
            values = self._closure(frame)
        final = np.array(np.broadcast_to(values, (n,)), dtype=np.float64)
        finite = np.isfinite(final)
        for column in columns.values():
            finite &= np.isfinite(column)
        if finite.all():
            return Final(final, 0)
        n_bad = int(n - np.count_nonzero(finite))
        if self.nonfinite == "error":
            row = int(np.flatnonzero(~finite)[0])
            read = ", ".join(f"{task}={columns[task][row]:g}" for task in self.tasks)
            raise DataError(
                f"formula {self.text!r} is not finite for {n_bad} of {n} items (item {row}: {read}); "
                "add an offset or clip, or declare a floor with nonfinite="
            )
        final[~finite] = self.nonfinite
        return Final(final, n_bad)

    def check_params(self, params: Mapping[str, float]) -> dict[str, np.float64]:
        """The parameters as float64, complete and finite."""
        checked = {}
        for name in self.params:
            if name not in params:
                raise ConfigError(f"formula {self.text!r}: parameter {name!r} has no value; give {', '.join(self.params)}")
            value = np.float64(params[name])
            if not np.isfinite(value):
                raise ConfigError(f"formula {self.text!r}: parameter {name!r} is {value}; it must be finite")
            checked[name] = value
        if len(params) > len(checked):
            extra = next(name for name in params if name not in checked)
            raise ConfigError(f"formula {self.text!r} has no parameter {extra!r}; it has {', '.join(self.params) or 'none'}")
        return checked

    def to_json(self) -> dict[str, Any]:
        """Everything needed to parse it again."""
        return {"text": self.text, **self.declared, "nonfinite": self.nonfinite}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Formula:
        """The inverse of `to_json`."""
        if not isinstance(value, Mapping) or set(value) != {"text", "tasks", "params", "context", "nonfinite"}:
            raise ConfigError(f"a stored formula needs text, tasks, params, context, nonfinite; got {value!r:.200}")
        return cls(**value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Formula.from_json, (self.to_json(),))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.text, self.params, self.nonfinite))

    def __repr__(self) -> str:
        return f"Formula({self.text!r})"

    def _columns(self, scores: ScoreTable | Mapping[str, Any]) -> tuple[dict[str, Floats], int]:
        if isinstance(scores, ScoreTable):
            table = scores.values.T
            try:
                rows = [scores.tasks.index(task) for task in self.tasks]
            except ValueError:
                missing = next(task for task in self.tasks if task not in scores.tasks)
                have = ", ".join(scores.tasks)
                raise ConfigError(f"formula {self.text!r} needs task {missing!r}; the scores hold {have}") from None
            chosen = np.ascontiguousarray(table[rows], dtype=np.float64)  # [n_used, n]
            return dict(zip(self.tasks, chosen, strict=True)), len(scores)
        for task in self.tasks:
            if task not in scores:
                raise ConfigError(f"formula {self.text!r} needs task {task!r}; the scores hold {', '.join(scores)}")
        columns = {task: np.asarray(scores[task], dtype=np.float64) for task in self.tasks}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise DataError(f"formula {self.text!r}: task columns differ in length {sorted(lengths)}; one value an item")
        return columns, lengths.pop()

    def _check_context(self, context: Mapping[str, Any]) -> dict[str, Any]:
        checked = {}
        for name in self.context:
            if name not in context:
                raise DataError(f"formula {self.text!r} needs {name!r} in the request's context; it holds {sorted(context)}")
            try:
                checked[name] = np.asarray(context[name], dtype=np.float64)[()]
            except (TypeError, ValueError):
                raise DataError(f"context {name!r} is {context[name]!r:.80}; formula {self.text!r} needs a number") from None
        return checked
