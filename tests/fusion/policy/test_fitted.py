"""Reward weights fitted to what came next: the truth is found, and what cannot say is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from fusion.policy.fitted import fitted
from fusion.policy.reward import Reward
from fusion.policy.transitions import Transitions


def table(n_users: int = 300, each: int = 8) -> Transitions:
    """Users with `each` sessions of two pages, in a mixed order; a like makes the next session two seconds longer, a click
    nothing."""
    rng = np.random.default_rng(0)
    n = n_users * each
    user, day = np.repeat(np.arange(n_users), each), np.tile(np.arange(each), n_users)
    likes, clicks = rng.poisson(1.0, (n, 2)), rng.poisson(2.0, (n, 2))
    liked = np.where(day > 0, np.roll(likes.sum(1), 1), 0)
    watched = rng.exponential(1.0, (n, 2)) + (2.0 * liked + 5 * rng.random(n_users)[user])[:, None] / 2
    session = rng.permutation(n)  # numbers say nothing about time
    columns: dict[str, Any] = {"session": np.repeat(session, 2), "step": np.tile([0, 1], n), "user_id": np.repeat(user, 2)}
    columns |= {"time_ms": np.repeat(day * 1000, 2) + columns["step"], "like": likes.ravel(), "click": clicks.ravel()}
    columns |= {"watch_s": watched.ravel(), "obs": np.zeros((2 * n, 1)), "next_obs": np.zeros((2 * n, 1))}
    columns |= {"action": np.zeros((2 * n, 1)), "terminated": columns["step"] == 1, "truncated": np.zeros(2 * n, bool)}
    reward = Reward({"stay": {"watch_s": 1.0}, "like": {"like": 1.0}, "click": {"click": 1.0}})
    shape: dict[str, Any] = {"obs_names": ["x"], "param_names": ["w"], "low": np.zeros(1), "high": np.ones(1)}
    return Transitions.from_log(columns, reward=reward, **shape)


def test_what_brings_people_back_gets_the_weight() -> None:
    rows = table()
    again, found = fitted(rows, "stay")
    weights = found.as_dict()
    assert weights["like"] > 0.9
    assert weights["click"] < 0.05
    assert found.low[1] > 0.8, "the interval over users"
    assert again.reward == pytest.approx(np.asarray(rows.rewards, float) @ found.weights, rel=1e-5)
    assert again.group_weights.tolist() == found.weights.tolist()
    assert rows.group_weights.tolist() == [1.0, 1.0, 1.0], "the given table stays as it was"


def test_what_cannot_be_fitted_is_said() -> None:
    rows = table(5, 2)
    with pytest.raises(ConfigError, match="no group 'dwell' to fit its weights to; groups are stay, like, click"):
        fitted(rows, "dwell")
    with pytest.raises(DataError, match="none of 10 sessions is followed by 2 more"):
        fitted(rows, "stay", n_next=2)
    with pytest.raises(DataError, match="no user has two"):
        fitted(rows, "stay")
    with pytest.raises(DataError, match="no column 'time_ms'"):
        fitted(replace(rows, time_ms=None), "stay")
    one = replace(rows, rewards=rows.rewards[:, :1], group_names=("stay",), group_weights=np.ones(1))
    with pytest.raises(ConfigError, match="'stay' is the reward's only group"):
        fitted(one, "stay")
