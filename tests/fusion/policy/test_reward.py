"""Rewards are worked out by hand; the fit finds the weights that made the future, and is not fooled by who the users are."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from fusion.policy.reward import Reward, fit_weights, future

REWARD = Reward(
    {"stickiness": {"watch_s": 0.02, "complete": 0.5}, "activeness": {"like": 1.0, "share": 2.0}}, {"activeness": 3.0}
)


def test_a_page_is_worth_its_groups() -> None:
    counts = {
        "watch_s": np.array([50.0, 0]),
        "complete": np.array([1.0, 0]),
        "like": np.array([1.0, 0]),
        "share": np.array([0, 1.0]),
    }
    total, parts = REWARD.of(counts)
    assert parts.tolist() == [[1.5, 1.0], [0.0, 2.0]]
    assert total.tolist() == [4.5, 6.0]
    assert REWARD.gains() == {"watch_s": 0.02, "complete": 0.5, "like": 3.0, "share": 6.0}
    assert Reward.from_json(REWARD.to_json()) == REWARD


def test_bad_rewards_are_refused() -> None:
    with pytest.raises(ConfigError, match="groups are a"):
        Reward({"a": {"like": 1.0}}, {"b": 1.0})
    with pytest.raises(ConfigError, match="must be finite"):
        Reward({"a": {"like": float("nan")}})
    with pytest.raises(DataError, match="reads task 'watch_s'"):
        REWARD.of({"like": np.zeros(2)})


def test_the_fit_recovers_the_weights_within_users() -> None:
    """Users who like much also come back much for reasons of their own; a fit across users would give `activeness` too much."""
    rng = np.random.default_rng(3)
    user = np.repeat(np.arange(800), 6)
    loyal = rng.normal(size=800)[user]
    values = np.stack([rng.gamma(2.0, 1.0, len(user)), rng.gamma(2.0, 0.5, len(user)) + np.exp(loyal)], 1)
    outcome = 3.0 * values[:, 0] + 1.0 * values[:, 1] + 10.0 * loyal + rng.normal(size=len(user))
    found = fit_weights(values, outcome, user, names=("stickiness", "activeness"))
    np.testing.assert_allclose(found.weights, [0.75, 0.25], atol=0.02)
    np.testing.assert_allclose(found.slopes, [3.0, 1.0], atol=0.1)
    assert (found.low <= [0.75, 0.25]).all()
    assert (found.high >= [0.75, 0.25]).all()
    assert found.as_dict()["stickiness"] == pytest.approx(0.75, abs=0.02)
    across = np.linalg.lstsq(np.c_[values, np.ones(len(user))], outcome, rcond=None)[0]
    assert across[1] / across[:2].sum() > 0.4


def test_the_future_of_a_session_is_the_next_ones() -> None:
    user, time = np.array([1, 1, 1, 2, 2]), np.array([1, 2, 3, 1, 2])
    assert future(user, time, np.array([1.0, 2.0, 4.0, 8.0, 16.0]), n_next=2).tolist()[:1] == [6.0]
    assert np.isnan(future(user, time, np.ones(5), n_next=2)[1:]).all()
    turned = np.array([4, 2, 0, 3, 1])
    straight = future(user, time, np.arange(5.0), n_next=1)
    np.testing.assert_array_equal(future(user[turned], time[turned], np.arange(5.0)[turned], n_next=1), straight[turned])


def test_a_group_that_does_harm_gets_nothing() -> None:
    rng = np.random.default_rng(4)
    user = np.repeat(np.arange(300), 5)
    values = rng.normal(size=(len(user), 2))
    outcome = values[:, 0] - 2 * values[:, 1] + 0.1 * rng.normal(size=len(user))
    assert fit_weights(values, outcome, user, names=("good", "bad")).weights.tolist() == [1.0, 0.0]


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(DataError, match="no user has two"):
        fit_weights(np.ones((3, 1)), np.ones(3), np.arange(3), names=("a",))
    with pytest.raises(DataError, match="no group of a"):
        fit_weights(np.array([[0.0], [1.0]]), np.array([1.0, 0.0]), np.zeros(2), names=("a",))
