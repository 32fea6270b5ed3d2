"""Single decisions: the golden file, numbers worked by hand, and unbiasedness on a truth that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.harness import data_folder
from core.errors import DataError
from fusion.ope import BANDIT, Decisions
from fusion.ope.bandit import dros, switch_dr
from fusion.ope.intervals import percentiles, redraw

GOLDEN = {"ipw": "ips", "snipw": "snips", "dm": "dm", "dr": "dr", "sndr": "sndr", "switch-dr": "switch_dr", "dr-os": "dros"}


def golden() -> Path | None:
    folder = data_folder("golden")
    return None if folder is None or not (folder / "obp_ref.npz").is_file() else folder / "obp_ref.npz"


@pytest.mark.skipif(golden() is None, reason="golden/obp_ref.npz is not there; see SCOREFUSION_DATA")
def test_every_estimator_reproduces_the_golden_file() -> None:
    path = golden()
    assert path is not None
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    rows = np.arange(len(data["reward"]))
    decisions = Decisions(
        data["reward"],
        data["pscore"],
        data["pi"][rows, data["action"]],
        data["q"][rows, data["action"]],
        (data["pi"] * data["q"]).sum(1),
    )
    for name, value in zip(data["names"], data["values"], strict=True):
        assert BANDIT[GOLDEN[str(name)]](decisions).value == pytest.approx(float(value), abs=1e-6), name


def hand_made(n: int = 2) -> Decisions:
    """Two rows: weights 2 and .5, rewards 1 and 0, a model off by .5 and .25."""
    rows = np.array([[1.0, 0.0], [0.25, 0.5], [0.5, 0.25], [0.5, 0.25], [0.6, 0.2]])
    return Decisions(*np.tile(rows, (1, n // 2)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ips", (2 * 1 + 0.5 * 0) / 2),
        ("snips", 2 * 1 / 2.5),
        ("dm", (0.6 + 0.2) / 2),
        ("dr", 0.4 + (2 * 0.5 + 0.5 * -0.25) / 2),
        ("sndr", 0.4 + (2 * 0.5 + 0.5 * -0.25) / 2.5),
        ("switch_dr", 0.4 + (2 * 0.5 + 0.5 * -0.25) / 2),
        ("dros", 0.4 + (20 * 2 / 24 * 0.5 + 20 * 0.5 / 20.25 * -0.25) / 2),
    ],
)
def test_values_worked_by_hand(name: str, value: float) -> None:
    assert BANDIT[name](hand_made()).value == pytest.approx(value, abs=1e-12)


def test_switch_uses_the_model_alone_above_tau_and_dros_goes_from_dm_to_dr() -> None:
    switched = switch_dr(hand_made(), tau=1.0)
    assert switched.value == pytest.approx(0.4 + 0.5 * -0.25 / 2)
    assert switched.n_capped == 1
    assert dros(hand_made(), lam=1e-12).value == pytest.approx(BANDIT["dm"](hand_made()).value, abs=1e-9)
    assert dros(hand_made(), lam=1e12).value == pytest.approx(BANDIT["dr"](hand_made()).value, abs=1e-9)


def rounds(n: int, seed: int) -> Decisions:
    """Two actions, rewards .2 and .7, logged .8 and .2, the target .3 and .7: worth .55. The model is wrong by .1."""
    rng = np.random.default_rng(seed)
    action = (rng.random(n) < 0.2).astype(int)
    reward = (rng.random(n) < np.array([0.2, 0.7])[action]).astype(float)
    logging, target, q = np.array([0.8, 0.2]), np.array([0.3, 0.7]), np.array([0.3, 0.8])
    return Decisions(reward, logging[action], target[action], q[action], np.full(n, float(target @ q)))


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr", "switch_dr"])
def test_the_truth_is_recovered(name: str) -> None:
    moments = BANDIT[name](rounds(40_000, seed=3))
    low, high = percentiles(redraw(moments, np.arange(40_000), n_redraws=200, seed=0))
    assert high - low < 0.05
    assert low - (high - low) / 4 < 0.55 < high + (high - low) / 4


def test_the_direct_method_keeps_its_models_bias() -> None:
    assert BANDIT["dm"](rounds(1000, seed=0)).value == pytest.approx(0.65)


@pytest.mark.parametrize("name", BANDIT)
def test_target_equal_to_behaviour_gives_the_mean(name: str) -> None:
    reward = np.array([1.0, 0.0, 3.0, 0.5])
    p = np.array([0.1, 0.7, 0.3, 0.123456789])
    found = BANDIT[name](Decisions(reward, p, p, reward.mean() * np.ones(4), reward.mean() * np.ones(4)))
    assert found.value == pytest.approx(reward.mean(), rel=0.05 if name == "dros" else 1e-12)


def test_users_are_redrawn_whole() -> None:
    """Ten users with a hundred equal rows each are ten facts, not a thousand."""
    reward = np.repeat(np.random.default_rng(0).normal(size=10), 100)
    ones = np.ones(1000)
    moments = BANDIT["ips"](Decisions(reward, ones, ones, 0 * ones, 0 * ones))
    by_user = redraw(moments, np.repeat(np.arange(10), 100), n_redraws=400, seed=1).std()
    by_row = redraw(moments, np.arange(1000), n_redraws=400, seed=1).std()
    assert by_user > 6 * by_row


def test_a_missing_propensity_is_named() -> None:
    with pytest.raises(DataError, match="1 of 2 propensities"):
        Decisions(np.ones(2), np.array([0.5, np.nan]), np.ones(2), np.zeros(2), np.zeros(2))
    with pytest.raises(DataError, match="q_target has shape"):
        Decisions(np.ones(2), np.ones(2), np.ones(2), np.zeros(2), np.zeros(3))
