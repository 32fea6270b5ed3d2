"""Judging: intervals cover, pairs are paired."""

import numpy as np
import pytest

from core.errors import ConfigError
from simulator import SessionEnv, World
from simulator.judge import interval, judge, judge_constants, ratio_interval
from simulator.policies import constant


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(1.0, 2.0, 50)) for _ in range(2000)]
    assert np.mean([i.low < 1.0 < i.high for i in found]) == pytest.approx(0.945, abs=0.02)


def test_a_ratio_of_a_thing_to_itself_is_exactly_one() -> None:
    x = np.random.default_rng(1).exponential(size=100)
    got = ratio_interval(x, x)
    assert (got.mean, got.low, got.high) == (1.0, 1.0, 1.0)


def test_judging_adds_up_what_sessions_did() -> None:
    env = SessionEnv(World.make("default", seed=2, n_users=100, n_items=150, n_candidates=12), 16)
    policy = constant(np.zeros(env.n_params))
    once, again = (judge(env, policy, n_sessions=40, seed=3) for _ in range(2))
    assert np.array_equal(once.session_return, again.session_return)
    assert (once.pages >= 1).all()
    assert 0 < once.clicks_per_page <= env.world.settings.page_size


def test_constants_judged_together_are_those_judged_alone() -> None:
    env = SessionEnv(World.make("default", seed=2, n_users=100, n_items=150, n_candidates=12), 16)
    tries = np.random.default_rng(0).uniform(-1, 1, (3, env.n_params)).astype(np.float32)
    together = judge_constants(env, tries, n_sessions=21, seed=3)
    for action, found in zip(tries, together, strict=True):
        alone = judge(env, constant(action), n_sessions=21, seed=3)
        for part in ("session_return", "pages", "clicks", "days_away"):
            assert np.array_equal(getattr(found, part), getattr(alone, part)), part


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        interval(np.ones(1))
