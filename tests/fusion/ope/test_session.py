"""Whole sessions: numbers worked by hand, exactness on the logging policy, unbiasedness, caps."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import DataError
from fusion.ope import SESSION, Steps
from fusion.ope.session import cap_sweep, ncis

FIRST = np.array([0, 2, 3])
STEPS = Steps(np.array([1.0, 2.0, 3.0, 1.0, 1.0, 1.0]), np.array([2.0, 0.5, 3.0, 1.0, 0.0, 9.0]), FIRST, 0.5)


def test_products_stop_at_nothing_and_begin_again() -> None:
    assert STEPS.product.tolist() == [2.0, 1.0, 3.0, 1.0, 0.0, 0.0]
    assert STEPS.weight.tolist() == [1.0, 3.0, 0.0]
    assert STEPS.session_return.tolist() == [2.0, 3.0, 1.75]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is", (1 * 2 + 3 * 3 + 0) / 3),
        ("pdis", (2 * 1 + 0.5 * 1 * 2 + 3 * 3 + 1 * 1) / 3),
        ("ncis", (1 * 2 + 3 * 3) / 4),
    ],
)
def test_values_worked_by_hand(name: str, value: float) -> None:
    assert SESSION[name](STEPS).value == pytest.approx(value, abs=1e-12)


def test_the_doubly_robust_value_worked_by_hand() -> None:
    q, v = np.array([1.0, 0.5, 2.0, 1.0, 1.0, 0.0]), np.array([2.0, 1.0, 2.5, 0.5, 0.5, 0.5])
    first = 2 * (1 - 1) + 2 + 0.5 * (1 * (2 - 0.5) + 2 * 1)
    second = 3 * (3 - 2) + 2.5
    third = 1 * 0 + 0.5 + 0.5 * (0 + 1 * 0.5) + 0
    found = SESSION["session_dr"](Steps(STEPS.reward, STEPS.ratio, FIRST, 0.5, q, v))
    assert found.value == pytest.approx((first + second + third) / 3, abs=1e-12)


@pytest.mark.parametrize("name", ["is", "pdis", "ncis"])
def test_ratios_of_one_give_the_logged_mean_to_the_bit(name: str) -> None:
    rng = np.random.default_rng(0)
    first = np.r_[0, np.sort(rng.permutation(np.arange(1, 500))[:99])]
    steps = Steps(rng.normal(size=500), np.ones(500), first)
    assert (steps.product == 1.0).all()
    assert SESSION[name](steps).value == pytest.approx(steps.session_return.mean(), rel=1e-14)


def two_steps(n: int, seed: int, *, model: float) -> Steps:
    """Two pages, two actions worth 0 and 1, logged at even odds, the target takes the better with .8: worth 1.6."""
    rng = np.random.default_rng(seed)
    action = rng.integers(0, 2, 2 * n)
    reward = action + rng.normal(size=2 * n)
    remaining = np.tile([model * 0.8, 0.0], n)
    q = model * action + remaining
    return Steps(reward, np.where(action, 1.6, 0.4), np.arange(0, 2 * n, 2), 1.0, q, model * 0.8 + remaining)


@pytest.mark.parametrize("name", ["is", "pdis", "session_dr"])
@pytest.mark.parametrize("model", [0.0, 0.5, 1.0])
def test_uncapped_estimates_are_unbiased_whatever_the_model(name: str, model: float) -> None:
    values = np.array([SESSION[name](two_steps(400, seed, model=model)).value for seed in range(200)])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - 1.6) < 4 * error
    assert error < 0.02


def test_a_right_model_makes_the_doubly_robust_estimate_calmer() -> None:
    spread = {m: np.std([SESSION["session_dr"](two_steps(400, s, model=m)).value for s in range(100)]) for m in (0.0, 1.0)}
    assert spread[1.0] < 0.9 * spread[0.0]


def test_caps_lead_from_the_logging_policy_to_the_target() -> None:
    steps = two_steps(20_000, 0, model=0.0)
    values = {cap: found.value for cap, found in cap_sweep(steps, (0.1, 1.0, 100.0)).items()}
    assert values[0.1] == pytest.approx(1.0, abs=0.05)
    assert values[0.1] < values[1.0] < values[100.0]
    assert values[100.0] == pytest.approx(1.6, abs=0.05)
    assert ncis(steps, cap=100.0).n_capped == 0


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="ascending"):
        Steps(np.ones(3), np.ones(3), np.array([0, 0]))
    with pytest.raises(DataError, match="gamma"):
        Steps(np.ones(3), np.ones(3), np.array([0]), 0.0)
    with pytest.raises(DataError, match="needs a model"):
        SESSION["session_dr"](Steps(np.ones(3), np.ones(3), np.array([0])))
