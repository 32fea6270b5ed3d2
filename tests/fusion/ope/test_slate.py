"""Weights of induced slates: exact where a list's probability can be worked out, calmer than action weights, levels in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from fusion.ope import Episodes, slate_weights
from fusion.ope.slate import rips
from fusion.policy.exploration import Exploration, Gaussian
from tests.fusion.ope.small import Table, fuse, log, policy

NARROW = Exploration({"own": (1.0, Gaussian(0.05))})


def halves(n: int = 400, mean: float = 0.0) -> Episodes:
    """Two candidates, (1, 0) and (0, 1): whatever the action, its sign alone decides which one is shown."""
    table = log(policy("logging", mean), n, seed=4)
    scores = np.zeros((len(table.reward), 2, 2), np.float32)
    scores[:, 0, 0] = scores[:, 1, 1] = 1.0
    return Episodes.from_table(replace(table, candidate_scores=scores))


def test_weights_are_ratios_of_the_lists_probabilities() -> None:
    """The logging policy shows either item with probability one half; a policy at .9 nearly always the first."""
    episodes = halves()
    found = slate_weights(episodes, policy("sure", 0.9, NARROW), policy("logging", 0.0), fuse, page_size=1, n_draws=200)
    first = episodes.action[:, 0] > 0
    assert found.weight[first].mean() == pytest.approx(2.0, rel=0.05)
    assert found.weight[~first].max() < 1e-6
    assert abs(found.bias) < 0.02
    assert found.hit_share > 0.99


def test_a_deterministic_target_is_weighed_by_the_list_it_shows() -> None:
    episodes = halves()
    found = slate_weights(episodes, policy("still", 0.9, None), policy("logging", 0.0), fuse, page_size=1, n_draws=200)
    first = episodes.action[:, 0] > 0
    assert found.weight[first].mean() == pytest.approx(2.0, rel=0.05)
    assert (found.weight[~first] == 0).all()


def test_the_target_that_logged_weighs_everything_one() -> None:
    logging = policy("logging", 0.0)
    found = slate_weights(Episodes.from_table(log(logging, 300, seed=1)), logging, logging, fuse, page_size=2, n_draws=8)
    assert np.allclose(found.weight, 1.0, atol=1e-12)


def test_weights_have_mean_one_and_vary_less_than_the_actions() -> None:
    logging, target = policy("logging", 0.0), policy("target", 0.3)
    table = log(logging, 1500, seed=2)
    episodes = Episodes.from_table(table)
    ratio = target.density(episodes.action, episodes.obs) / episodes.propensity
    by_set = slate_weights(episodes, target, logging, fuse, page_size=2, level="set", n_draws=32).weight
    assert by_set.mean() == pytest.approx(1.0, abs=0.06)
    assert by_set.std() < 0.9 * ratio.std()


def test_prefix_weights_end_at_the_ordered_slate() -> None:
    logging, target = policy("logging", 0.0), policy("target", 0.3)
    episodes = Episodes.from_table(log(logging, 200, seed=3))
    by_place = slate_weights(episodes, target, logging, fuse, page_size=2, level="position", n_draws=16, seed=5).weight
    ordered = slate_weights(episodes, target, logging, fuse, page_size=2, level="ordered", n_draws=16, seed=5).weight
    assert by_place.shape == (len(episodes), 2)
    assert np.allclose(by_place[:, 1], ordered)
    assert by_place[:, 0].std() < by_place[:, 1].std() + 1e-9
    assert rips(np.ones((2, 2)), np.array([[1.0, 2.0], [0.0, 0.5]])).tolist() == [3.0, 0.5]


def test_what_is_missing_is_named() -> None:
    table: Table = log(policy("logging", 0.0), 50, seed=0)
    bare = Episodes.from_table(replace(table, candidate_scores=None))
    with pytest.raises(DataError, match="every candidate's scores"):
        slate_weights(bare, policy("t", 0.0), policy("l", 0.0), fuse, page_size=2)
    full = Episodes.from_table(table)
    with pytest.raises(ConfigError, match="no density"):
        slate_weights(full, policy("t", 0.0), policy("l", 0.0, None), fuse, page_size=2)
    with pytest.raises(ConfigError, match="even number"):
        slate_weights(full, policy("t", 0.0), policy("l", 0.0), fuse, page_size=2, n_draws=3)
