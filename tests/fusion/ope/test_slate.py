"""Weights of induced slates: exact where a list's probability can be worked out, calmer than action weights, levels in order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from fusion.ope import Episodes, Evaluator, Steps, slate_weights
from fusion.ope.slate import rips, slate_rips
from fusion.policy.exploration import Exploration, Gaussian
from tests.fusion.ope.small import Table, evaluator, fuse, log, policy, position_rewards, truth

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


@pytest.mark.parametrize("name", ["slate_ordered", "slate_set", "slate_rips"])
def test_of_the_logging_policy_slates_say_exactly_what_was_logged(name: str) -> None:
    ev = evaluator(log(policy("logging", 0.0), 400, seed=1))
    weight = slate_weights(ev.episodes, policy("l", 0.0), policy("l", 0.0), fuse, page_size=2, level="position", n_draws=4).weight
    assert (weight == 1.0).all()
    assert ev.estimate(name, policy("logging", 0.0)).value == pytest.approx(ev.logged.value, rel=1e-9)


def test_rips_is_unbiased_and_calmer_than_whole_slates() -> None:
    """Rewards of positions that depend on their own items alone: thirty logs' mean against the known value."""
    target, logging = policy("target", 0.15), policy("logging", 0.0)
    found: dict[str, list[float]] = {name: [] for name in ("slate_ordered", "slate_rips")}
    for seed in range(30):
        ev = evaluator(log(logging, 300, seed=100 + seed))
        settings = replace(ev.settings, n_redraws=20, min_effective=1.0)
        ev = Evaluator(ev.episodes, logging=logging, fuse=fuse, page_size=2, settings=settings)
        for name, values in found.items():
            values.append(ev.estimate(name, target).value)
    rips_values, ordered = (np.array(values) for values in (found["slate_rips"], found["slate_ordered"]))
    assert abs(rips_values.mean() - truth(target)) < 4 * rips_values.std(ddof=1) / 30**0.5
    assert rips_values.std() < ordered.std()


def test_a_position_needs_the_weight_of_its_own_item() -> None:
    """Two candidates: the first one at the top earns 1 and .25 below it, the other way round .25 and 1. The target shows the
    first one at the top for sure, the log every second time. The prefix BEFORE a position would leave the top unweighed."""
    e = halves()
    weight = slate_weights(
        e, policy("still", 0.9, None), policy("logging", 0.0), fuse, page_size=2, level="position", n_draws=64
    ).weight
    assert e.scores is not None
    earned = position_rewards(e.action, e.scores)
    steps = Steps(earned.sum(1), weight[:, -1], np.arange(len(e)))
    assert set(map(tuple, earned)) == {(1.0, 0.25), (0.25, 1.0)}
    assert slate_rips(steps, earned, weight).value == pytest.approx(1.25, abs=0.15)
    shifted = slate_rips(steps, earned, np.c_[np.ones(len(weight)), weight[:, :-1]]).value
    assert shifted == pytest.approx(0.625 + 0.25, abs=0.15)


def test_what_no_position_earned_is_weighed_by_the_whole_slate() -> None:
    """Without any reward by position RIPS is the ordered slate's PDIS."""
    table = log(policy("logging", 0.0), 300, seed=3)
    none = evaluator(replace(table, position_rewards=np.zeros_like(table.position_rewards)))
    near = policy("near", 0.2)
    assert none.estimate("slate_rips", near).value == pytest.approx(none.estimate("slate_ordered", near).value, rel=1e-9)
    bare = evaluator(replace(table, position_rewards=None))
    assert bare.estimate("slate_rips", near).status == "no_position_rewards"
    assert bare.estimate("slate_ordered", near).status == "ok"
    with pytest.raises(DataError, match="must agree"):
        slate_rips(Steps(np.ones(2), np.ones(2), np.array([0])), np.ones((2, 3)), np.ones((2, 2)))


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
