"""Behaviour: the curves it is made of, and the click that everything else needs."""

import numpy as np
import pytest
from scipy.special import expit, ndtr

from simulator import World
from simulator.behaviour import phi, sigmoid


def test_curves_agree_with_scipy() -> None:
    x = np.linspace(-9, 9, 1001).astype(np.float32)
    assert np.abs(sigmoid(x) - expit(x)).max() < 1e-6
    assert np.abs(phi(x) - ndtr(x)).max() < 6e-4


@pytest.mark.parametrize("size", [1, 7, 8, 33])
def test_curves_give_the_same_bits_in_any_batch(size: int) -> None:
    x = np.linspace(-30, 30, 64).astype(np.float32)
    assert np.array_equal(sigmoid(x)[:size], sigmoid(x[:size].copy()))
    assert np.array_equal(phi(x)[:size], phi(x[:size].copy()))


@pytest.mark.parametrize("finish", [0.0, 0.7])
def test_probabilities_are_the_frequencies_of_acts(finish: float) -> None:
    world = World.make("default", seed=1, n_users=50, n_items=80, n_candidates=10, examine_power=0.0, watch_finish=finish)
    b, n = world.behaviour, 20_000
    rng = np.random.default_rng(0)
    truth = np.broadcast_to(np.array([0.3, 2.5, *[-1.0] * b.n_heads], np.float32)[:, None, None], (2 + b.n_heads, n, 1)).copy()
    u = rng.random((n, 1, 2 + b.n_heads)).astype(np.float32)
    z, w = rng.normal(size=(2, n, 1)).astype(np.float32)
    outcome = b.act(truth, np.zeros((n, 1), np.int64), u, z, w)
    expected = world.true_scores(truth[:, :1], np.zeros((1, 1), np.int64))[:, 0, 0]
    for task in range(len(world.tasks) - 1):
        p = float(expected[task])
        assert outcome.done[task].mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / n) + 0.003), world.tasks.names[task]
    clicked = outcome.done[0] > 0
    assert outcome.done[1:-1][:, ~clicked].sum() == 0
    watched = (outcome.seconds * outcome.done[0]).mean()
    assert float(expected[-1]) == pytest.approx(watched, rel=0.06)


def test_who_is_near_the_end_watches_to_it() -> None:
    plain, sticky = (
        World.make("default", seed=1, n_users=50, n_items=80, n_candidates=10, watch_finish=f).behaviour for f in (0.0, 0.5)
    )
    items = np.array([0, 0, 0])
    log_s = np.log(plain.duration_s[items] * np.array([0.4, 0.7, 1.4])).astype(np.float32)
    of_length = sticky.seconds(log_s, items) / plain.duration_s[items]
    assert of_length.tolist() == pytest.approx([0.4, 1.0, 1.4], rel=1e-5), "0.7 is within exp(-0.5) = 0.61 of the end"
    assert (plain.seconds(log_s, items) / plain.duration_s[items]).tolist() == pytest.approx([0.4, 0.7, 1.4], rel=1e-5)
