"""A world of one-dimensional actions whose values are known: the action trades one score for the other in a list of two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Floats32, Ints
from fusion.ope import Episodes, Evaluator, Settings, SlateFeatures, Target
from fusion.ope.checks import Case
from fusion.ope.features import top_rows
from fusion.ope.network import NetworkSettings
from fusion.policy.exploration import Exploration, Gaussian

STAY, LIMIT, N_ITEMS, PAGE = 0.6, 5, 12, 2
MEAN_LENGTH = sum(STAY**t for t in range(LIMIT))
LOGGING = Exploration({"own": (1.0, Gaussian(0.3))})


@dataclass
class Table:
    """A transition table's columns."""

    obs: Floats32
    next_obs: Floats32
    action: Floats32
    reward: Floats32
    truncated: Bools
    propensity: Floats
    session: Ints
    step: Ints
    user: Ints
    candidate_scores: Floats32 | None
    position_rewards: Floats32 | None = None


def fuse(action: AnyArray, scores: AnyArray) -> AnyArray:
    """The action weighs the first score against the second."""
    share = (np.asarray(action)[:, :1] + 1) / 2
    return share * scores[:, :, 0] + (1 - share) * scores[:, :, 1]


def policy(name: str, mean: float, exploration: Exploration | None = LOGGING) -> Target:
    """Always the same mean action."""
    return Target(name, lambda obs: np.full((len(obs), 1), mean), exploration)


def position_rewards(action: AnyArray, scores: Floats32) -> Floats:
    """The expected reward of each position of what an action shows, `[n, PAGE]`: the first score is worth four times the
    second."""
    shown = np.take_along_axis(scores, top_rows(fuse(action, scores), PAGE)[:, :, None], 1)
    value: Floats = shown @ np.array([2.0, 0.5]) / PAGE
    return value


def page_rewards(action: AnyArray, scores: Floats32) -> Floats:
    """The expected reward of what an action shows, `[n]`."""
    total: Floats = position_rewards(action, scores).sum(1)
    return total


def log(target: Target, n_sessions: int, seed: int) -> Table:
    """Sessions of a policy; how long they last has nothing to do with what it does."""
    rng = np.random.default_rng(seed)
    length = np.minimum(rng.geometric(1 - STAY, n_sessions), LIMIT)
    session = np.repeat(np.arange(n_sessions), length)
    step = np.arange(len(session)) - np.repeat(np.cumsum(length) - length, length)
    n = len(session)
    obs = rng.normal(size=(n, 1)).astype(np.float32)
    scores = rng.random((n, N_ITEMS, 2)).astype(np.float32)
    assert target.noise is not None
    action = np.asarray(target.noise.sample(target.act(obs), rng).action, np.float32)
    earned = position_rewards(action, scores) + 0.07 * rng.normal(size=(n, PAGE))
    reward = earned.sum(1) + 0.2 * obs[:, 0]  # what the state adds is of no position
    return Table(
        obs=obs,
        next_obs=obs,
        action=action,
        reward=reward.astype(np.float32),
        truncated=step == LIMIT - 1,
        propensity=target.density(action, obs),
        session=session,
        step=step,
        user=session // 2,
        candidate_scores=scores,
        position_rewards=earned.astype(np.float32),
    )


def truth(target: Target, n: int = 400_000) -> float:
    """The policy's value, by so many pages that its error is under a thousandth."""
    rng = np.random.default_rng(12345)
    obs = np.zeros((n, 1), np.float32)
    scores = rng.random((n, N_ITEMS, 2)).astype(np.float32)
    return float(page_rewards(target.sample(obs, rng), scores).mean()) * MEAN_LENGTH


def evaluator(table: Table, **changes: object) -> Evaluator:
    """An evaluator of this world."""
    settings = Settings(
        network=NetworkSettings(hidden=(16,), rounds=8, updates=30, batch=256, learning_rate=5e-3),
        network_seeds=(0, 1),
        slate_sessions=800,
        slate_draws=16,
        n_redraws=200,
        cap=30.0,
        ridge=1e-4,
    )
    features = SlateFeatures(fuse, PAGE, np.ones(2, np.float32), (), lambda obs: np.zeros((len(obs), 1)))
    given: dict[str, object] = {"features": features, "logging": policy("logging", 0.0), "fuse": fuse, "page_size": PAGE}
    given |= {"settings": settings, **changes}
    return Evaluator(Episodes.from_table(table), **given)  # type: ignore[arg-type]  # keywords that differ by test


def case() -> Case:
    """The log, a near policy and a far one."""
    logging, near = policy("logging", 0.0), policy("near", 0.15)
    far = policy("far", 0.97, Exploration({"own": (1.0, Gaussian(0.01))}))
    narrow = log(logging, 4000, seed=1)
    return Case(evaluator(narrow), logging, near, truth(near), far)
