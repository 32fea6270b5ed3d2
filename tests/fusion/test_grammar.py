"""The language: precedence, positions in errors, caps, and a fuzz that finds neither a crash nor code execution."""

from __future__ import annotations

import builtins
import os
import subprocess
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from fusion.formula import Formula
from fusion.formula.grammar import FUNCTIONS, MAX_LENGTH, parse

NAMES: dict[str, Any] = {"tasks": ["click", "like"], "params": [], "context": ["hour"]}
VALUES = {"click": 0.5, "like": 0.25}
PIECES = [*FUNCTIONS, "click", "like", "hour", "a", "__import__", "os", "system", ".", "'", "[", "lambda", ":", "=", "%"]
PIECES += ["+", "-", "*", "/", "**", "(", ")", ",", "<", "<=", "==", " ", "1", "2.5", ".5", "1e3", "1e999", "0", "\n", "é", "²"]


def value(text: str) -> float:
    formula = Formula.parse(text, tasks=["click", "like"], context=["hour"])
    return float(formula.final({t: np.array([v]) for t, v in VALUES.items()}, {}, {"hour": 7}).values[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click + like * 2", 1.0),
        ("click - like - 1", -0.75),
        ("8 / 2 / 2 * click", 1.0),
        ("2 ** 3 ** 2 * click", 256.0),
        ("-click ** 2", -0.25),
        ("click ** -1", 2.0),
        ("--click", 0.5),
        ("(click + like) * 4", 3.0),
        ("min(click, like, 1)", 0.25),
        ("max(click, like)", 0.5),
        ("clip(click, .1, .3)", 0.3),
        ("where(click > like, hour, 0)", 7.0),
        ("where(click <= like, hour, 3)", 3.0),
        ("(click >= like) + (click == click) + (click != like) + (click < like)", 3.0),
        ("sigmoid(0 * click)", 0.5),
        ("log(exp(click))", 0.5),
        ("log1p(0 * click)", 0.0),
        ("sqrt(like)", 0.5),
        ("abs(0 - click)", 0.5),
        ("rank(click)", 1.0),
        ("zscore(click) + minmax(like)", 0.0),
        ("1e-1 * click + 0.", 0.05),
    ],
)
def test_meaning(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("click + clik", 9, "unknown name 'clik' (did you mean 'click'?); known names are click, like, hour"),
        ("logg(click)", 1, "unknown function 'logg' (did you mean 'log'?)"),
        ("click +", 8, "ends too early"),
        ("click like", 7, "unexpected 'like'"),
        ("(click", 7, "expected ')' for the '(' at position 1, found the end"),
        ("min(click)", 1, "at least 2 arguments, got 1"),
        ("clip(click, 1)", 1, "takes 3 arguments, got 2"),
        ("log()", 5, "unexpected ')'"),
        ("click ^ 2", 7, "a power is written **"),
        ("click.__class__", 6, "not part of the language"),
        ("1 < click < 2", 11, "do not chain"),
        ("1e999 * click", 1, "too large"),
        ("log + click", 1, "needs its arguments in parentheses"),
        ("", 1, "ends too early"),
    ],
)
def test_errors_name_the_position(text: str, position: int, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, **NAMES)
    assert f"position {position}:" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("deep", ["(" * 60 + "click" + ")" * 60, "-" * 60 + "click", "log(" * 60 + "click" + ")" * 60])
def test_depth_is_capped(deep: str) -> None:
    with pytest.raises(ConfigError, match="nested deeper than 40"):
        parse(deep, **NAMES)


HOSTILE = {
    "attribute access": ("click.__class__.__bases__", 6),
    "a call of Python": ("__import__('os').system('true')", 12),
    "a lambda": ("(lambda: click)()", 8),
    "an index": ("click[0]", 6),
    "a tower of powers": ("click + 9 ** 9 ** 9 ** 9", 16),
    "a huge power": ("click ** 1e300", 7),
    "an overflow": ("click + 1e300 * 1e300", 15),
    "a logarithm of zero": ("click + log(1 - 1)", 9),
    "10,000 parentheses": ("(" * 10_000 + "click" + ")" * 10_000, MAX_LENGTH + 1),
    "parentheses under the cap": ("(" * 900 + "click" + ")" * 900, 41),
    "10,000 signs": ("-" * 10_000 + "click", MAX_LENGTH + 1),
    "a Cyrillic c": ("\u0441lick", 1),
    "fullwidth letters": ("\uff4c\uff4f\uff47(click)", 1),
    "a fullwidth parenthesis": ("log\uff08click)", 4),
    "a fullwidth digit": ("click * \uff11", 9),
    "a minus that is a dash": ("click \u2212 like", 7),
    "an invisible space": ("click\u200b + like", 6),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_texts_are_refused_with_a_position(what: str) -> None:
    text, position = HOSTILE[what]
    with pytest.raises(ConfigError, match=f"position {position}: "):
        parse(text, **NAMES)


def test_length_and_height_are_capped() -> None:
    with pytest.raises(ConfigError, match=f"at most {MAX_LENGTH}"):
        parse("click" + " " * MAX_LENGTH, **NAMES)
    with pytest.raises(ConfigError, match="operations in a row"):
        parse("+".join(["click"] * 200), **NAMES)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"tasks": ["log"]}, "is a function"),
        ({"tasks": ["click"], "params": ["click"]}, "names must differ"),
        ({"tasks": ["a b"]}, "not an identifier"),
        ({"tasks": ["click"], "params": ["a"]}, "declared but not used"),
        ({"tasks": ["like", "click"], "text": "1 + 2"}, "uses no task"),
    ],
)
def test_declarations_are_checked(names: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(names.pop("text", "click"), **names)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=60))
def test_fuzz_no_crash_and_no_execution(text: str) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a formula reached Python")

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((builtins, "eval"), (builtins, "exec"), (os, "system"), (subprocess, "Popen")):
            patch.setattr(owner, name, forbidden)
        try:
            formula = Formula(text, tasks=["click", "like"], context=["hour"])
            final = formula.final({"click": np.array([0.5, 0.1]), "like": np.array([0.0, 1.0])}, {}, {"hour": 3})
        except (ConfigError, DataError):
            return
    assert np.isfinite(final.values).all()
    assert final.values.shape == (2,)
