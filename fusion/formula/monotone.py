"""Whether raising a task can lower the final score: proved from the tree by signs and intervals, never by sampling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from core.errors import ConfigError
from core.tasks import TaskSet
from fusion.formula.formula import Formula
from fusion.formula.tree import Binary, Name, Negate, Node, Number

Direction = Literal["up", "down", "constant", "unknown"]
Bounds: TypeAlias = tuple[float, float]


class _Sense(NamedTuple):
    """Which way a value moves (+1, -1, 0 constant, None unknown) and the interval it stays in."""

    sign: int | None
    low: float
    high: float


def direction(formula: Formula, task: str, params: Mapping[str, float | Bounds], tasks: TaskSet) -> Direction:
    """How the final score moves when one item's score of `task` rises and all else stays.

    Args:
        params: A value, or a range `(low, high)`, for every parameter.
        tasks: Binary tasks lie in [0, 1], regressions in [0, inf).

    Returns:
        `up` and `down` (not strictly) and `constant` are proved; `unknown` means neither could be.

    >>> from core.tasks import TaskSpec
    >>> f = Formula.parse("a * log(click + .1) - like", tasks=["click", "like"], params=["a"])
    >>> s = TaskSet([TaskSpec("click"), TaskSpec("like")])
    >>> [direction(f, task, {"a": (0.0, 2.0)}, s) for task in ("click", "like")], direction(f, "click", {"a": (-1, 1)}, s)
    (['up', 'down'], 'unknown')
    """
    sense = _sense(formula.tree, task, params, tasks)
    names: dict[int | None, Direction] = {1: "up", -1: "down", 0: "constant", None: "unknown"}
    return names[sense.sign]


def require_monotone(formula: Formula, params: Mapping[str, float | Bounds], tasks: TaskSet) -> None:
    """Refuse a formula that is not proved to move with every task's goal.

    Raises:
        ConfigError: A task whose goal is `up` may lower the final score, or one whose goal is `down` may raise it.
    """
    for task in formula.tasks:
        found = direction(formula, task, params, tasks)
        goal = tasks[task].goal
        if found not in (goal, "constant"):
            raise ConfigError(
                f"formula {formula.text!r} is not proved monotone in {task!r} (goal {goal}, found {found}); "
                "narrow the parameters' ranges so that signs and logarithms are certain"
            )


def _sense(node: Node, task: str, params: Mapping[str, float | Bounds], tasks: TaskSet) -> _Sense:
    if isinstance(node, Number):
        return _Sense(0, node.value, node.value)
    if isinstance(node, Name):
        return _name(node, task, params, tasks)
    if isinstance(node, Negate):
        return _negate(_sense(node.operand, task, params, tasks))
    if isinstance(node, Binary):
        left, right = _sense(node.left, task, params, tasks), _sense(node.right, task, params, tasks)
        return _binary(node.op, left, right)
    return _call(node.function, [_sense(arg, task, params, tasks) for arg in node.args])


def _name(node: Name, task: str, params: Mapping[str, float | Bounds], tasks: TaskSet) -> _Sense:
    if node.kind == "context":
        return _Sense(0, -math.inf, math.inf)
    if node.kind == "param":
        if node.name not in params:
            raise ConfigError(f"parameter {node.name!r} has no value or range; give one")
        given = params[node.name]
        low, high = given if isinstance(given, tuple) else (given, given)
        return _Sense(0, float(low), float(high))
    high = 1.0 if tasks[node.name].kind == "binary" else math.inf
    return _Sense(1 if node.name == task else 0, 0.0, high)


def _binary(op: str, a: _Sense, b: _Sense) -> _Sense:
    if op == "+":
        low, high = a.low + b.low, a.high + b.high
        return _Sense(_both(a.sign, b.sign), -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
    if op == "-":
        return _binary("+", a, _negate(b))
    if op == "*":
        return _times(a, b)
    if op == "/":
        return _times(a, _inverse(b))
    if op == "**":
        return _power(a, b)
    moving = a.sign == 0 and b.sign == 0
    if op in ("<", "<=", ">", ">="):  # x > y rises with x and falls with y
        rise = _both(a.sign, _flip(b.sign)) if op in (">", ">=") else _both(_flip(a.sign), b.sign)
        return _Sense(rise, 0.0, 1.0)
    return _Sense(0 if moving else None, 0.0, 1.0)


def _call(function: str, args: list[_Sense]) -> _Sense:
    a = args[0]
    if function in ("log", "log1p", "sqrt"):
        edge = {"log": 0.0, "log1p": -1.0, "sqrt": 0.0}[function]
        if a.low < edge or (a.low == edge and function != "sqrt"):
            return _unknown(a, -math.inf, math.inf)
        f = {"log": math.log, "log1p": math.log1p, "sqrt": math.sqrt}[function]
        return _Sense(a.sign, f(a.low), f(a.high) if a.high < math.inf else math.inf)
    if function == "exp":
        return _Sense(a.sign, _exp(a.low), _exp(a.high))
    if function == "sigmoid":
        return _Sense(a.sign, 0.0, 1.0)
    if function == "abs":
        if a.low >= 0:
            return a
        return _negate(a) if a.high <= 0 else _unknown(a, 0.0, max(-a.low, a.high))
    if function in ("min", "max", "clip"):
        ordered = args if function != "clip" else [_call("max", args[:2]), args[2]]
        pick = max if function == "max" else min
        sign = ordered[0].sign
        for other in ordered[1:]:
            sign = _both(sign, other.sign)
        return _Sense(sign, pick(s.low for s in ordered), pick(s.high for s in ordered))
    if function == "rank":  # 1 is best
        return _Sense(_flip(a.sign), 1.0, math.inf)
    if function == "zscore":
        return _Sense(a.sign, -math.inf, math.inf)
    if function == "minmax":
        return _Sense(a.sign, 0.0, 1.0)
    condition, yes, no = args
    low, high = min(yes.low, no.low), max(yes.high, no.high)
    sign = _both(yes.sign, no.sign)
    if condition.sign == 0:
        return _Sense(sign, low, high)
    rises = condition.sign == 1 and condition.low >= 0 and sign in (0, 1) and yes.low >= no.high
    falls = condition.sign == -1 and condition.low >= 0 and sign in (0, 1) and no.low >= yes.high
    return _Sense(1 if rises or falls else None, low, high)


def _times(a: _Sense, b: _Sense) -> _Sense:
    products = [_product(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return _Sense(_both(_scaled(a.sign, b), _scaled(b.sign, a)), min(products), max(products))


def _inverse(b: _Sense) -> _Sense:
    if b.low <= 0 <= b.high:
        return _unknown(b, -math.inf, math.inf)
    return _Sense(_flip(b.sign), 1 / b.high, 1 / b.low)


def _power(a: _Sense, b: _Sense) -> _Sense:
    """x ** y on x > 0: rises with x where y >= 0, with y where x >= 1."""
    if a.low < 0 or (a.low == 0 and b.low < 0):
        whole = b.low == b.high and float(b.low).is_integer()
        if whole and b.low > 0 and b.low % 2 == 1:
            return _Sense(a.sign, -math.inf, math.inf)
        return _unknown(_Sense(_both(a.sign, b.sign), 0, 0), -math.inf, math.inf)
    in_base = 0 if a.sign == 0 else _scaled(a.sign, b)
    in_power = 0 if b.sign == 0 else (b.sign if a.low >= 1 else _flip(b.sign) if a.high <= 1 else None)
    values = [_raised(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return _Sense(_both(in_base, in_power), min(values), max(values))


def _raised(x: float, y: float) -> float:
    try:
        return math.pow(x, y)
    except (OverflowError, ValueError):
        return math.inf


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _scaled(sign: int | None, factor: _Sense) -> int | None:
    """The direction of something that moves by `sign`, times a factor of known sign."""
    if sign == 0 or factor.low == factor.high == 0:
        return 0
    if factor.low >= 0:
        return sign
    return _flip(sign) if factor.high <= 0 else None


def _negate(a: _Sense) -> _Sense:
    return _Sense(_flip(a.sign), -a.high, -a.low)


def _flip(sign: int | None) -> int | None:
    return None if sign is None else -sign


def _both(a: int | None, b: int | None) -> int | None:
    if a is None or b is None or a * b < 0:
        return None
    return a or b


def _unknown(a: _Sense, low: float, high: float) -> _Sense:
    return _Sense(0 if a.sign == 0 else None, low, high)
