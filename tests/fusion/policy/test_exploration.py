"""Densities integrate to 1, are those of the draws, agree with the simulator's, and one request always draws the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core.errors import ConfigError
from fusion.policy.exploration import Box, Exploration, Gaussian, boxed, mixed, uniforms_of
from simulator.policies import truncated_density

MIXTURES = {
    "mixed": mixed(),
    "boxed": boxed(),
    "both": Exploration({"box": (0.25, Box(0.3)), "wide": (0.75, Gaussian(0.5, "zero"))}),
}


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("mean", [0.0, 0.95, -1.0])
def test_the_density_integrates_to_one(name: str, mean: float) -> None:
    """On a grid of midpoints over [-1, 1]^2; the baseline may sit on a bound."""
    x = (np.arange(800) + 0.5) / 400 - 1
    points = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    density = MIXTURES[name].density(points, np.full(points.shape, mean))
    assert density.sum() / 400**2 == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("name", MIXTURES)
def test_draws_follow_the_density(name: str) -> None:
    """E[1 / p(a)] over draws is the volume of the support, and no draw has density 0."""
    mean = np.tile([[0.4, -0.9]], (200_000, 1))
    drawn = MIXTURES[name].sample(mean, np.random.default_rng(5))
    assert (drawn.density > 0).all()
    assert (np.abs(drawn.action) <= 1).all()
    np.testing.assert_allclose(drawn.density, MIXTURES[name].density(drawn.action, mean), rtol=1e-12)
    np.testing.assert_allclose(np.bincount(drawn.component) / len(mean), MIXTURES[name].shares, atol=0.005)
    inside = (np.abs(drawn.action - mean) < 0.05).all(1)  # a small square within every support
    assert inside.mean() == pytest.approx(0.01 * (drawn.density[inside]).mean(), rel=0.05)


def test_the_mixture_weighs_its_components() -> None:
    drawn = mixed(wide_share=0.25).sample(np.full((50, 3), 0.5), np.random.default_rng(0))
    wide = truncated_density(drawn.action, np.zeros((50, 3)), 1.0)
    near = truncated_density(drawn.action, np.full((50, 3), 0.5), 0.1)
    np.testing.assert_allclose(drawn.density, 0.25 * wide + 0.75 * near, rtol=1e-9)
    np.testing.assert_allclose(drawn.component_density, np.where(drawn.component == 0, wide, near), rtol=1e-9)


def test_nothing_piles_up_on_the_bounds() -> None:
    """Clipping six unit Gaussians to [-1, 1] would put nine draws of ten on a bound somewhere."""
    drawn = mixed(wide_share=1.0).sample(np.zeros((10_000, 6)), np.random.default_rng(1))
    assert (np.abs(drawn.action) > 0.9999).any(1).mean() < 0.01


def test_the_box_is_known_only_where_it_holds_everything() -> None:
    assert boxed(0.2).box == 0.2
    assert np.isnan(mixed().box)
    assert np.isnan(MIXTURES["both"].box)
    assert boxed().density(np.array([[0.2]]), np.array([[0.0]])).tolist() == [0.0]


def test_a_request_draws_the_same_everywhere() -> None:
    """The numbers of a text are fixed for ever: logs are replayed by them."""
    np.testing.assert_allclose(uniforms_of("u1-s2-p3", 2), uniforms_of("u1-s2-p3", 20)[:2], rtol=0)
    many = np.stack([uniforms_of(f"r{i}", 10, salt="s") for i in range(4_000)])
    assert np.abs(many.mean(0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(many.T) - np.eye(10)).max() < 0.08
    assert (uniforms_of("r1", 4) != uniforms_of("r1", 4, salt="s")).all()


@pytest.mark.parametrize("name", MIXTURES)
def test_json_and_back(name: str) -> None:
    again = Exploration.from_json(json.loads(json.dumps(MIXTURES[name].to_json())))
    a = again.sample(np.zeros((5, 2)), np.random.default_rng(3))
    b = MIXTURES[name].sample(np.zeros((5, 2)), np.random.default_rng(3))
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.density, b.density)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": {"share": 0.5, "kind": "box"}}, "sum to 1"),
        ({"a": {"share": 1.0, "kind": "cauchy"}}, "kind among gaussian, box"),
        ({"a": {"share": 1.0, "kind": "box", "half": 0}}, "half 0 must lie"),
        ({"a": {"share": 1.0, "kind": "box", "sd": 1}}, "unexpected keyword"),
        ({"a": {"share": 1.0, "kind": "gaussian", "sd": -1}}, "above 0"),
        ({}, "sum to 1"),
    ],
)
def test_bad_settings_are_refused(value: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Exploration.from_json(value)
