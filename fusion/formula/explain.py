"""Why an item has its final score: each task's contribution, exact, adding up to final minus base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError, DataError
from core.scores import ScoreTable
from fusion.formula.formula import Formula
from fusion.formula.program import Frame, compile_tree
from fusion.formula.tree import Binary, Negate, Node, names

Space = Literal["sum", "log", "shapley"]
MAX_SHAPLEY_TASKS = 8


@dataclass(frozen=True, slots=True)
class Explanation:
    """Contributions by task.

    Args:
        space: `sum`: final = base + the contributions, each a term of the formula. `log`: the same holds for log(final), each
            the logarithm of a factor. `shapley`: final = base + Shapley values, base that of the request's median item.
    """

    item: int
    space: Space
    final: float
    base: float
    contributions: Mapping[str, float]


def explain(
    formula: Formula,
    scores: ScoreTable,
    item: int,
    params: Mapping[str, float] | None = None,
    context: Mapping[str, Any] | None = None,
) -> Explanation:
    """Explain one item of a request.

    Args:
        item: Its row in the scores.

    Raises:
        ConfigError: More than 8 tasks interact, so that exact Shapley values would take too long.
        DataError: The row is not there, or its final score is not finite.

    >>> f = Formula.parse("2 * click + like + 1", tasks=["click", "like"])
    >>> explain(f, ScoreTable(("click", "like"), np.array([[0.5, 0.25]])), 0).contributions
    {'click': 1.0, 'like': 0.25}
    """
    if not 0 <= item < len(scores):
        raise DataError(f"item {item} is not a row of the {len(scores)} scores")
    columns = {task: np.asarray(scores[task], dtype=np.float64) for task in formula.tasks}
    given = formula.check_params(params or {})
    values = {name: np.float64(value) for name, value in (context or {}).items() if name in formula.context}
    final = float(formula.final(scores, params, context).values[item])
    frame = Frame(columns, given, values, len(scores))
    for space, parts in (("sum", _terms(formula.tree, 1.0)), ("log", _factors(formula.tree, 1.0))):
        if parts is not None and all(len(names(node, "task")) <= 1 for node, _ in parts):
            found = _apart(parts, frame, item, log=space == "log")
            if found is not None:
                base, contributions = found
                return Explanation(item, "sum" if space == "sum" else "log", final, base, contributions)
    return _shapley(formula, columns, given, values, item, final)


def _terms(node: Node, sign: float) -> list[tuple[Node, float]] | None:
    """The addends of a sum and their signs."""
    if isinstance(node, Negate):
        return _terms(node.operand, -sign)
    if isinstance(node, Binary) and node.op in ("+", "-"):
        left, right = _terms(node.left, sign), _terms(node.right, sign if node.op == "+" else -sign)
        return None if left is None or right is None else left + right
    return [(node, sign)]


def _factors(node: Node, power: float) -> list[tuple[Node, float]] | None:
    """The factors of a product and whether they multiply or divide."""
    if isinstance(node, Binary) and node.op in ("*", "/"):
        left, right = _factors(node.left, power), _factors(node.right, power if node.op == "*" else -power)
        return None if left is None or right is None else left + right
    return [(node, power)]


def _apart(parts: list[tuple[Node, float]], frame: Frame, item: int, *, log: bool) -> tuple[float, dict[str, float]] | None:
    base, contributions = 0.0, dict.fromkeys(frame.tasks, 0.0)
    with np.errstate(all="ignore"):
        for node, factor in parts:
            value = float(np.broadcast_to(compile_tree(node)(frame), (frame.n,))[item])
            if log:
                if not value > 0:
                    return None
                value = math.log(value)
            tasks = names(node, "task")
            if tasks:
                contributions[tasks[0]] += factor * value
            else:
                base += factor * value
    return base, contributions


def _shapley(
    formula: Formula,
    columns: Mapping[str, Floats],
    params: Mapping[str, float],
    context: Mapping[str, Any],
    item: int,
    final: float,
) -> Explanation:
    """Shapley values over all coalitions: the tasks outside a coalition take the request's median."""
    tasks = formula.tasks
    if len(tasks) > MAX_SHAPLEY_TASKS:
        raise ConfigError(
            f"formula {formula.text!r} mixes {len(tasks)} tasks; Shapley values are exact for at most {MAX_SHAPLEY_TASKS}"
        )
    n, medians = len(tasks), {task: np.median(column) for task, column in columns.items()}
    worth = np.empty(1 << n)
    for coalition in range(1 << n):
        changed = {task: column.copy() for task, column in columns.items()}
        for bit, task in enumerate(tasks):
            if not coalition >> bit & 1:
                changed[task][item] = medians[task]
        worth[coalition] = formula.final(changed, params, context).values[item]
    contributions = {}
    for bit, task in enumerate(tasks):
        total = 0.0
        for coalition in range(1 << n):
            if not coalition >> bit & 1:
                size = coalition.bit_count()
                share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                total += share * (worth[coalition | 1 << bit] - worth[coalition])
        contributions[task] = total
    return Explanation(item, "shapley", final, float(worth[0]), contributions)
