"""Logging policies: their densities are those they were drawn with."""

import numpy as np
import pytest

from core.errors import ConfigError
from simulator.policies import Draw, constant, mixed_exploration, truncated_density, uniform_box
from simulator.streams import key

N = 40_000
OBS, DRAW = np.zeros((N, 1), np.float32), Draw(key(3, np.arange(N)))


def test_a_mixture_reports_its_true_density() -> None:
    got = mixed_exploration([0.8], noise=0.1, share=0.5)(OBS, DRAW)
    edges = np.linspace(-1, 1, 41)
    seen, _ = np.histogram(got.action[:, 0], edges, density=True)
    middle = (edges[:-1] + edges[1:]) / 2
    near = truncated_density(middle[:, None], np.full((40, 1), 0.8), 0.1)
    wide = truncated_density(middle[:, None], np.zeros((40, 1)), 1.0)
    assert np.abs(seen - (near + wide) / 2).max() < 0.12
    assert got.propensity == pytest.approx(0.5 * got.columns["density_wide"] + 0.5 * got.columns["density_near"])
    assert got.columns["component"].mean() == pytest.approx(0.5, abs=0.01)


def test_nothing_piles_up_on_the_bounds() -> None:
    got = mixed_exploration(np.full(6, 0.95))(np.zeros((2000, 1), np.float32), Draw(key(3, np.arange(2000))))
    assert (np.abs(got.action) < 1).all()


def test_inverse_densities_average_to_the_volume() -> None:
    got = mixed_exploration([0.2, -0.3])(OBS, DRAW)
    assert np.mean(1 / got.propensity) == pytest.approx(4.0, rel=0.05), "importance sampling of the constant 1 over [-1, 1]^2"


def test_a_box_is_cut_at_the_range_and_knows_its_volume() -> None:
    got = uniform_box([0.95, 0.0], half=0.15)(OBS, DRAW)
    assert got.propensity[0] == pytest.approx(1 / (0.2 * 0.3))
    assert (got.action[:, 0] >= 0.8 - 1e-6).all()
    assert (got.action[:, 0] <= 1).all()
    assert got.columns["box_high"][0].tolist() == pytest.approx([1.0, 0.15])


def test_a_constant_has_no_density() -> None:
    got = constant([0.5])(OBS[:3], DRAW)
    assert np.isnan(got.propensity).all()
    assert got.action.tolist() == [[0.5]] * 3


def test_wrong_spreads_say_so() -> None:
    with pytest.raises(ConfigError, match="noise 0"):
        mixed_exploration([0.0], noise=0.0)
    with pytest.raises(ConfigError, match="half 3"):
        uniform_box([0.0], half=3.0)
