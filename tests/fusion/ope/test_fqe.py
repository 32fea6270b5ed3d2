"""Fitted Q: a chain solved by hand, the iteration against its fixed point, the conservative penalty, refitted intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError
from fusion.ope import Episodes, LinearFqe, Target
from fusion.ope.fqe import user_blocks
from tests.fusion.ope.small import Table


class Plain:
    """The state and the action as they are."""

    def __call__(
        self, obs: Floats32, action: AnyArray, scores: AnyArray | None = None, context: Floats32 | None = None
    ) -> Floats32:
        return np.concatenate([obs, np.asarray(action, np.float32)], axis=1)

    def context(self, episodes: Episodes) -> None:
        return None


def chain(n: int = 3000, seed: int = 0) -> Episodes:
    """Two pages a session. The first page's action a earns a and is seen on the second page, where it earns 2 a again; the
    second page's own action earns 3 a'. Always doing c is worth c + 2 c + 3 c."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1, 1, (n, 2))
    obs = np.zeros((n, 2, 2), np.float32)  # the first page's action, and which page it is
    obs[:, 1, 0], obs[:, 1, 1] = action[:, 0], 1.0
    reward = np.stack([action[:, 0], 2 * action[:, 0] + 3 * action[:, 1]], 1) + 0.1 * rng.normal(size=(n, 2))
    table = Table(
        obs=obs.reshape(-1, 2),
        next_obs=obs.reshape(-1, 2),
        action=action.reshape(-1, 1).astype(np.float32),
        reward=reward.ravel().astype(np.float32),
        truncated=np.zeros(2 * n, bool),
        propensity=np.full(2 * n, 0.5),
        session=np.repeat(np.arange(n), 2),
        step=np.tile([0, 1], n),
        user=np.repeat(np.arange(n), 2),
        candidate_scores=None,
    )
    return Episodes.from_table(table)


class Paged(Plain):
    """Also the action times the page's number: what the chain's Q is linear in."""

    def __call__(
        self, obs: Floats32, action: AnyArray, scores: AnyArray | None = None, context: Floats32 | None = None
    ) -> Floats32:
        a = np.asarray(action, np.float32)
        return np.concatenate([obs, a, a * obs[:, 1:]], axis=1)


def always(value: float) -> Target:
    return Target(f"always {value}", lambda obs: np.full((len(obs), 1), value))


@pytest.mark.parametrize("value", [-0.5, 0.0, 0.8])
def test_the_chain_is_solved(value: float) -> None:
    fit = LinearFqe(chain(), Paged(), ridge=1e-8).evaluate(always(value))
    assert fit.converged
    assert fit.value == pytest.approx(6 * value, abs=0.03)


def test_discount_counts_the_second_page_less() -> None:
    fit = LinearFqe(chain(), Paged(), ridge=1e-8, gamma=0.5).evaluate(always(0.8))
    assert fit.value == pytest.approx(0.8 + 0.5 * 5 * 0.8, abs=0.03)


def test_the_rounds_end_where_the_weighted_rewards_say() -> None:
    """The implied weights times the logged rewards are the fixed point's value, found another way."""
    episodes = chain()
    fit = LinearFqe(episodes, Paged(), ridge=1e-3).evaluate(always(0.5))
    assert float(fit.weight @ episodes.reward) / episodes.n_sessions == pytest.approx(fit.value, rel=1e-4)


def test_the_penalty_lowers_what_lies_outside_the_log_by_its_closed_form() -> None:
    """Q' = Q - penalty * (Sigma + ridge)^-1 (m_pi - m) a round: with gamma so small that one round settles it."""
    episodes = chain()
    fqe = LinearFqe(episodes, Paged(), ridge=1e-3, gamma=1e-9)
    target, penalty = always(0.9), 0.3
    plain, careful = fqe.evaluate(target), fqe.evaluate(target, penalty=penalty)
    raw = Paged()(episodes.obs, episodes.action)
    acted = Paged()(episodes.obs, target.act(episodes.obs))
    mean, spread = raw.mean(0), raw.std(0)

    def phi(values: Floats32) -> AnyArray:
        return np.concatenate([np.ones((len(values), 1)), (values - mean) / spread], axis=1)

    sigma = phi(raw).T @ phi(raw) / len(raw)
    sigma[np.arange(1, 5), np.arange(1, 5)] += 1e-3
    shift = -penalty * np.linalg.solve(sigma, phi(acted).mean(0) - phi(raw).mean(0))
    assert np.allclose(careful.theta - plain.theta, shift, atol=1e-3)
    assert careful.value < plain.value


@pytest.mark.parametrize("ridge", [1e-3, 0.05, 30.0])
def test_the_logged_actions_get_exactly_their_mean_return(ridge: float) -> None:
    """Whatever the ridge, and however wrong the features: so also on every redraw of users."""
    episodes = replace(chain(500), reward=np.random.default_rng(1).exponential(size=1000))
    model = LinearFqe(episodes, Plain(), ridge=ridge)
    fit = model.evaluate(None, n_redraws=50)
    returns = np.add.reduceat(episodes.reward, episodes.first)
    assert fit.value == pytest.approx(returns.mean(), rel=1e-5)
    times = np.random.default_rng(2).poisson(1.0, (50, 100))[:, model.blocks[episodes.first]]
    assert fit.redrawn == pytest.approx((times @ returns) / times.sum(1), rel=1e-5)


def test_a_ridge_on_the_constant_would_break_that() -> None:
    class Shrunk(LinearFqe):
        def _system(self, m: Any, times: Floats, penalty: float) -> tuple[Floats, Floats, Floats, Floats]:
            sigma, move, b, v0 = super()._system(m, times, penalty)
            sigma[0, 0] += self.ridge
            return sigma, move, b, v0

    episodes = replace(chain(500), reward=np.random.default_rng(1).exponential(size=1000))
    fit = Shrunk(episodes, Plain(), ridge=0.05).evaluate(None)
    assert abs(fit.value - 2 * episodes.reward.mean()) > 0.02


def test_a_cut_session_is_worth_what_was_logged_of_it() -> None:
    """No bootstrap beyond a cut: the same rewards are worth the same, whether the user left or the log was cut."""
    episodes = chain(500)
    cut = replace(episodes, truncated=np.isin(np.arange(len(episodes)), episodes.last))
    values = [LinearFqe(e, Paged()).evaluate(always(0.5)).value for e in (episodes, cut)]
    assert values[0] == values[1]


def cut_chain(n: int = 4000) -> Episodes:
    """The chain, every second session cut after its first page; the state that page led to is known."""
    whole = chain(n)
    cut = np.arange(n) % 2 == 0
    kept = np.ones((n, 2), bool)
    kept[cut, 1] = False
    seen = whole.obs.reshape(n, 2, 2).copy()
    seen[:, 0] = seen[:, 1]  # the next page's state
    truncated = np.zeros((n, 2), bool)
    truncated[cut, 0] = True
    rows = np.flatnonzero(kept.ravel())
    sizes = kept.sum(1)
    return replace(
        whole,
        **{name: getattr(whole, name)[rows] for name in ("obs", "action", "reward", "propensity", "user")},
        next_obs=seen.reshape(-1, 2)[rows],
        truncated=truncated.ravel()[rows],
        first=np.cumsum(sizes) - sizes,
    )


@pytest.mark.parametrize("value", [-0.5, 0.8])
def test_what_follows_a_cut_is_valued_where_the_state_is_known(value: float) -> None:
    """c + 2 c + 3 c in whole; up to the cuts, half of the second pages are missing."""
    episodes = cut_chain()
    beyond = LinearFqe(episodes, Paged(), ridge=1e-8, beyond_cuts=True).evaluate(always(value))
    assert beyond.value == pytest.approx(6 * value, abs=0.06)
    up_to = LinearFqe(episodes, Paged(), ridge=1e-8).evaluate(always(value))
    assert up_to.value == pytest.approx(value + 5 * value / 2, abs=0.06)


def test_users_who_left_are_not_followed() -> None:
    """Ends that are no cuts stay ends: with none cut the two ways agree to the bit."""
    episodes = chain(500)
    values = [LinearFqe(episodes, Paged(), beyond_cuts=beyond).evaluate(always(0.5)).value for beyond in (False, True)]
    assert values[0] == values[1]


def test_reach_grows_outside_the_log_and_is_one_inside() -> None:
    episodes = chain()
    narrow = replace(episodes, action=(0.1 * episodes.action).astype(np.float32))
    fqe = LinearFqe(narrow, Plain())
    assert fqe.evaluate(always(0.05)).reach < 1.1
    assert fqe.evaluate(always(0.9)).reach > 10


def test_intervals_shrink_with_users_and_hold_the_value() -> None:
    def width(n: int) -> float:
        fit = LinearFqe(chain(n), Paged(), ridge=1e-6).evaluate(always(0.5), n_redraws=200)
        assert abs(fit.redrawn.mean() - fit.value) < 2 * fit.redrawn.std()
        return float(fit.redrawn.std())

    assert 1.5 < width(500) / width(4000) < 5.5  # the square root of 8 is 2.8


def test_values_that_grow_for_ever_are_not_called_an_estimate() -> None:
    """A state that doubles from page to page: Q has no fixed point."""
    n, steps = 300, 12
    obs = np.tile(2.0 ** np.arange(steps), n)[:, None].astype(np.float32)
    rng = np.random.default_rng(0)
    table = Table(
        obs=obs,
        next_obs=obs,
        action=rng.uniform(-1, 1, (n * steps, 1)).astype(np.float32),
        reward=obs[:, 0],
        truncated=np.zeros(n * steps, bool),
        propensity=np.full(n * steps, 0.5),
        session=np.repeat(np.arange(n), steps),
        step=np.tile(np.arange(steps), n),
        user=np.repeat(np.arange(n), steps),
        candidate_scores=None,
    )
    fit = LinearFqe(Episodes.from_table(table), Plain(), ridge=1e-12).evaluate(always(0.0), max_rounds=30)
    assert not fit.converged
    assert np.isnan(fit.value)
    assert np.isnan(fit.redrawn).all()


def test_one_user_has_no_interval() -> None:
    with pytest.raises(ConfigError, match="1 user"):
        user_blocks(np.zeros(5), 10, 0)
    with pytest.raises(ConfigError, match="ridge"):
        LinearFqe(chain(50), Plain(), ridge=0.0)
