"""Explanations add up, exactly where the formula is a sum or a product, by Shapley otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from core.scores import ScoreTable
from fusion.formula import Formula
from fusion.formula.explain import explain

TASKS = ("click", "like", "watch_s")
SCORES = ScoreTable(TASKS, np.array([[0.5, 0.1, 8.0], [0.2, 0.3, 2.0], [0.9, 0.2, 4.0]]))


def test_a_sum_by_hand() -> None:
    formula = Formula.parse("a * log(click) - (2 * like - 3) + click / 2", tasks=TASKS, params=["a"])
    found = explain(formula, SCORES, 0, {"a": 4.0})
    assert found.space == "sum"
    assert found.base == 3.0
    assert found.contributions == pytest.approx({"click": 4 * math.log(0.5) + 0.25, "like": -0.2})


def test_a_product_by_hand_in_log_space() -> None:
    formula = Formula.parse("3 * (1 + 2 * click) ** p * watch_s / (like + 1)", tasks=TASKS, params=["p"])
    found = explain(formula, SCORES, 1, {"p": 0.5})
    assert found.space == "log"
    assert found.base == pytest.approx(math.log(3))
    assert found.contributions == pytest.approx({"click": 0.5 * math.log(1.4), "watch_s": math.log(2), "like": -math.log(1.3)})
    assert found.base + sum(found.contributions.values()) == pytest.approx(math.log(found.final))


def test_shapley_by_hand() -> None:
    formula = Formula.parse("click * watch_s + click", tasks=TASKS)
    found = explain(formula, SCORES, 2)  # medians: click .5, watch 4, so only click differs
    assert found.space == "shapley"
    assert found.base == 2.5
    assert found.contributions == pytest.approx({"click": 2.0, "watch_s": 0.0})
    first = explain(formula, SCORES, 1)  # click .2 against .5, watch 2 against 4
    click = ((0.2 * 4 + 0.2) - 2.5 + (0.2 * 2 + 0.2) - (0.5 * 2 + 0.5)) / 2
    assert first.contributions["click"] == pytest.approx(click)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            "a * click + b * log(like + .1) - watch_s",
            "(1 + a * click) ** b * (watch_s + 1) / (2 + like)",
            "min(click, like) * watch_s + rank(click + like) + a * b",
            "zscore(click * like) - a * max(watch_s, b * click)",
            "a / (rank(click) + 60) + b * minmax(watch_s)",
            "-(click + like) * a * b",
        ]
    ),
    st.integers(0, 10_000),
)
def test_contributions_add_up(text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = ScoreTable(TASKS, rng.random((7, 3)))
    params = dict(zip("ab", rng.uniform(0.1, 2.0, 2).tolist(), strict=True))
    formula = Formula.parse(text, tasks=TASKS, params=["a", "b"])
    for item in range(7):
        found = explain(formula, scores, item, params)
        total = found.base + sum(found.contributions.values())
        assert total == pytest.approx(math.log(found.final) if found.space == "log" else found.final, abs=1e-9)


def test_limits() -> None:
    names = [f"t{i}" for i in range(9)]
    formula = Formula.parse("max(" + ", ".join(names) + ")", tasks=names)
    with pytest.raises(ConfigError, match="at most 8"):
        explain(formula, ScoreTable(tuple(names), np.ones((2, 9))), 0)
    with pytest.raises(DataError, match="not a row"):
        explain(Formula.parse("click", tasks=TASKS), SCORES, 3)
