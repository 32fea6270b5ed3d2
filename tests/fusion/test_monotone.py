"""Proofs of direction, against hand-worked cases and against numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.tasks import TaskSet, TaskSpec
from fusion.formula import Formula
from fusion.formula.families import FAMILIES, family
from fusion.formula.monotone import direction, require_monotone

TASKS = TaskSet(
    [
        TaskSpec("click"),
        TaskSpec("purchase"),
        TaskSpec("watch_s", "regression", unit_of_measure="s"),
        TaskSpec("hate", goal="down"),
    ]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click", "up"),
        ("-click", "down"),
        ("hate + 1", "constant"),
        ("log(click)", "unknown"),
        ("log(click + .1)", "up"),
        ("a * click", "unknown"),
        ("abs(a) * click", "up"),
        ("exp(a) * click", "up"),
        ("1 / (click + 1)", "down"),
        ("1 / (click - .5)", "unknown"),
        ("(1 + 3 * click) ** -2", "down"),
        ("(click - .5) ** 2", "unknown"),
        ("(click - .5) ** 3", "up"),
        ("2 ** click", "up"),
        (".5 ** click", "down"),
        ("min(click, hate) + max(click, .3)", "up"),
        ("clip(click, hate, 1)", "up"),
        ("abs(click - .5)", "unknown"),
        ("click > hate", "up"),
        ("click < hate", "down"),
        ("where(click > .5, 1 + hate, hate)", "up"),
        ("where(click > .5, .5 + hate, hate)", "unknown"),
        ("where(click > .5, 2, hate)", "up"),
        ("where(hate > .5, click, 2 * click)", "up"),
        ("rank(click)", "down"),
        ("1 / (60 + rank(click)) + zscore(click) + minmax(click)", "up"),
        ("click * (hate - 1)", "down"),
        ("click * watch_s", "up"),
        ("sqrt(click) + log1p(watch_s) + sigmoid(click)", "up"),
        ("click - click ** 2", "unknown"),
    ],
)
def test_direction(text: str, expected: str) -> None:
    formula = Formula.parse(text, tasks=TASKS.scored, params=["a"] if "a *" in text or "a)" in text else [])
    assert direction(formula, "click", {"a": (-1.0, 1.0)}, TASKS) == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_families_keep_every_goal_over_their_whole_range(name: str) -> None:
    f = family(name, TASKS)
    require_monotone(f.formula, {p: (low, high) for p, (low, high, _) in f.ranges.items()}, TASKS)


def test_a_wrong_goal_is_refused() -> None:
    formula = Formula.parse("click + w * hate", tasks=TASKS.scored, params=["w"])
    require_monotone(formula, {"w": -1.0}, TASKS)
    with pytest.raises(ConfigError, match=r"not proved monotone in 'hate' \(goal down, found up\)"):
        require_monotone(formula, {"w": 1.0}, TASKS)


FUNCTIONS = ["log", "exp", "sqrt", "abs", "sigmoid", "log1p", "rank", "minmax", "-"]
_leaf = st.sampled_from(["click", "hate", "2", ".5", "0"])
_text = st.recursive(
    _leaf,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", "<", ">="]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(FUNCTIONS), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"where({t[0]}, {t[1]}, {t[2]})"),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(_text, st.integers(0, 1000))
def test_a_proof_is_never_contradicted_by_numbers(text: str, seed: int) -> None:
    try:
        formula = Formula.parse(f"0 * click + {text}", tasks=["click", "hate"], nonfinite=0.0)
    except ConfigError:  # constants that are not finite
        return
    found = direction(Formula.parse(f"{text} + 0 * click", tasks=["click", "hate"]), "click", {}, TASKS)
    if found == "unknown":
        return
    rng = np.random.default_rng(seed)
    low = {task: rng.integers(0, 5, 6) / 4 for task in ("click", "hate")}
    high = {**low, "click": low["click"].copy()}
    high["click"][0] = min(1.0, low["click"][0] + 0.25)
    before, after = (formula.final(columns) for columns in (low, high))
    if before.n_nonfinite or after.n_nonfinite:
        return
    change = after.values[0] - before.values[0]
    slack = 1e-9 * max(1.0, abs(before.values[0]))
    assert {"up": change >= -slack, "down": change <= slack, "constant": abs(change) <= slack}[found]
