"""The canonical formulas, each one line, with the ranges in which they stay monotone and the groups whose scale is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import ConfigError
from core.tasks import TaskSet, TaskSpec
from fusion.formula.formula import Formula

Range = tuple[float, float, bool]  # low, high, spaced by ratio


@dataclass(frozen=True)
class Family:
    """A formula, the ranges of its parameters, and the groups of parameters whose common factor changes no ranking."""

    name: str
    formula: Formula
    ranges: Mapping[str, Range]
    scale_free: Sequence[Sequence[str]] = ()


def weighted_sum(tasks: TaskSet) -> Family:
    """sum_i w_i o_i."""
    text = " + ".join(f"w_{t} * {t}" for t in tasks.scored)
    return _family("weighted_sum", text, tasks, _weights("w_", tasks), ["w_"])


def log_sum(tasks: TaskSet) -> Family:
    """sum_i a_i log(o_i + b_i), BatchRL-MTF's formula."""
    text = " + ".join(f"a_{t} * log({t} + b_{t})" for t in tasks.scored)
    return _family("log_sum", text, tasks, {**_weights("a_", tasks), **_each("b_", tasks, (1e-4, 1.0, True))}, ["a_"])


def power_product(tasks: TaskSet) -> Family:
    """prod_i (b_i + a_i o_i) ** p_i, with b_i = 1: only a_i / b_i matters. Monotone where a_i p_i >= 0."""
    text = " * ".join(f"(1 + a_{t} * {t}) ** p_{t}" for t in tasks.scored)
    return _family("power_product", text, tasks, {**_each("a_", tasks, (0.1, 1e4, True)), **_weights("p_", tasks)}, ["p_"])


def rank_sum(tasks: TaskSet) -> Family:
    """sum_i w_i / (rank_i + c): reciprocal rank fusion with weights."""
    text = " + ".join(f"w_{t} / (rank({t}) + c)" for t in tasks.scored)
    return _family("rank_sum", text, tasks, {**_weights("w_", tasks), "c": (1.0, 100.0, True)}, ["w_"])


def ctr_x_watch(tasks: TaskSet, click: str = "click", watch: str = "watch_s") -> Family:
    """click ** p * watch ** q: expected watch time by default (p = q), tilted to either side by the search."""
    text = f"({click} + 1e-6) ** p * ({watch} + 1e-6) ** q"
    _need(tasks, click, watch)
    return Family("ctr_x_watch", _parse(text, tasks, ["p", "q"]), {"p": (0.0, 1.0, False), "q": (0.0, 1.0, False)}, [["p", "q"]])


def two_output(tasks: TaskSet, click: str = "click", pay: str = "purchase") -> Family:
    """(1 - w) click + w pay: a linear blend of two outputs."""
    _need(tasks, click, pay)
    return Family("two_output", _parse(f"(1 - w) * {click} + w * {pay}", tasks, ["w"]), {"w": (0.0, 1.0, False)})


FAMILIES: Final[Mapping[str, Callable[[TaskSet], Family]]] = {
    "weighted_sum": weighted_sum,
    "log_sum": log_sum,
    "power_product": power_product,
    "rank_sum": rank_sum,
    "ctr_x_watch": ctr_x_watch,
    "two_output": two_output,
}


def family(name: str, tasks: TaskSet) -> Family:
    """A family over all item-level tasks of a set."""
    if name not in FAMILIES:
        raise ConfigError(f"unknown formula family {name!r}; families are {', '.join(FAMILIES)}")
    return FAMILIES[name](tasks)


def weighted_sum_of(weights: Mapping[str, float]) -> Formula:
    """sum_k w_k * task_k over the tasks of the weights, with parameters `w_<task>`."""
    if not weights:
        raise ConfigError("hand_set weights are empty; declare one for each task that counts")
    text = " + ".join(f"w_{task} * {task}" for task in weights)
    return Formula.parse(text, tasks=list(weights), params=[f"w_{task}" for task in weights])


def _family(name: str, text: str, tasks: TaskSet, ranges: Mapping[str, Range], scale: Sequence[str]) -> Family:
    groups = [[param for param in ranges if param.startswith(prefix)] for prefix in scale]
    return Family(name, _parse(text, tasks, list(ranges)), dict(ranges), groups)


def _parse(text: str, tasks: TaskSet, params: Sequence[str]) -> Formula:
    return Formula.parse(text, tasks=tasks.scored, params=params)


def _weights(prefix: str, tasks: TaskSet) -> dict[str, Range]:
    """Weights from 0 to 1, and from -1 to 0 for what should rank low."""
    specs: dict[str, TaskSpec] = {name: tasks[name] for name in tasks.scored}
    return {prefix + name: (0.0, 1.0, False) if spec.goal == "up" else (-1.0, 0.0, False) for name, spec in specs.items()}


def _each(prefix: str, tasks: TaskSet, values: Range) -> dict[str, Range]:
    return {prefix + name: values for name in tasks.scored}


def _need(tasks: TaskSet, *names: str) -> None:
    for name in names:
        if name not in tasks.scored:
            raise ConfigError(f"this family needs task {name!r}; tasks are {', '.join(tasks.scored)}")
