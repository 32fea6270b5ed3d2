"""Two oracles that see the true state, the best constant weights, and a policy's share of the gap between them.

A page's value is its expected reward plus what staying is worth: `rho * (1 - h) / h`, the pages still to come at the hazard
`h` that the page would leave behind, times the reward `rho` of an average page.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.arrays import Floats, Floats32, Ints
from simulator.behaviour import CLICK
from simulator.env import SessionEnv
from simulator.judge import judge_constants
from simulator.policies import Action, Draw, Policy
from simulator.session import Sessions, top
from simulator.streams import key, normals, words


def oracle_weights(env: SessionEnv, *, rho: float, n_random: int = 16, persist: float = 0.6) -> Policy:
    """The weight-space oracle: at each step the best of many actions by the true value of the page each would show.

    It tries mixtures of the user's true needs with the reward's weights, and `n_random` fixed points of the action space.

    Args:
        rho: Reward of an average page, for instance hand-set's return over its pages.
        persist: How much of a page's effect on satisfaction lasts over the pages still to come.
    """
    world = env.world
    reward = np.array([world.settings.reward.get(task, 0.0) for task in world.tasks.names]) * world.rates
    points = np.clip(normals(words(key(7, 91, np.arange(n_random)), -(-env.n_params // 4)))[:, : env.n_params] * 0.7, -1, 1)
    blends = np.linspace(0, 1, 9)

    def act(obs: Floats32, draw: Draw) -> Action:
        sessions = env.sessions
        gain, worth = true_values(sessions)
        need = sessions.need[:, :, 0].T.astype(float)  # (B, T)
        need = need / np.abs(need).sum(1, keepdims=True)
        tries = [(1 - blend) * need + blend * reward / np.abs(reward).sum() for blend in blends]
        actions = [env.actions((w / np.abs(w).max(1, keepdims=True)).astype(np.float32)) for w in tries]
        actions += [np.broadcast_to(point, actions[0].shape).astype(np.float32) for point in points]
        best = np.full(len(obs), -np.inf)
        chosen = actions[0].copy()
        for action in actions:
            rows = top(env.fuse(env.weights(action), sessions.scores), world.settings.page_size)
            value = page_value(sessions, rows, gain, worth, rho, persist)
            better = value > best
            best[better], chosen[better] = value[better], action[better]
        return Action(chosen, np.full(len(obs), np.nan))

    return act


def oracle_items(*, rho: float, persist: float = 0.6) -> Callable[[Sessions], Floats32]:
    """The item-level oracle: candidates ranked by true value, for `rollout(..., rank=...)`; the best of several blends each
    step."""

    def rank(sessions: Sessions) -> Floats32:
        gain, worth = true_values(sessions)
        best, chosen = np.full(len(gain), -np.inf), np.zeros(gain.shape, np.float32)
        scale = worth.std() / max(float(gain.std()), 1e-9)
        for blend in np.linspace(0, 1, 9):
            final = ((1 - blend) * worth + blend * scale * gain).astype(np.float32)
            value = page_value(sessions, top(final, sessions.world.settings.page_size), gain, worth, rho, persist)
            better = value > best
            best[better], chosen[better] = value[better], final[better]
        return chosen

    return rank


def true_values(sessions: Sessions) -> tuple[Floats, Floats]:
    """Expected reward and expected worth of every candidate if it is looked at, `[n, N]` each."""
    world = sessions.world
    scores = world.true_scores(sessions.truth, sessions.items)
    reward = [world.settings.reward.get(task, 0.0) for task in world.tasks.names]
    gain = sum(
        (weight * plane for weight, plane in zip(reward, scores.astype(float), strict=True)), np.zeros(sessions.items.shape)
    )
    topic = world.catalogue.topic[:, 0][sessions.items]
    repetition = np.take_along_axis(sessions.boredom, topic, 1)
    worth = world.worth(sessions.truth, sessions.items, sessions.need) - world.settings.boredom * repetition
    return gain, scores[CLICK] * worth.astype(float)


def page_value(sessions: Sessions, rows: Ints, gain: Floats, worth: Floats, rho: float, persist: float) -> Floats:
    """The true value of showing candidates `rows` `[n, k]`."""
    world = sessions.world
    look = world.behaviour.examine
    reward = (np.take_along_axis(gain, rows, 1) * look).sum(1)
    page = (np.take_along_axis(worth, rows, 1) * look).sum(1) / rows.shape[1]
    state = world.satisfaction.next_state(sessions.satisfaction, page.astype(np.float32))
    lasting = (persist * state).astype(np.float32)
    patience = world.population.patience[sessions.user]
    hazard = world.satisfaction.hazard(lasting, patience, sessions.step + 1).astype(float)
    value: Floats = reward + rho * (1 - hazard) / hazard
    return value


def best_constant(env: SessionEnv, *, n_sessions: int, seed: int, rounds: int = 8, size: int = 24) -> Floats32:
    """The best constant action `[n_params]` by the cross-entropy method on simulated sessions; judge it on another seed.

    The first rounds, which only have to find the region, use a quarter and then half of `n_sessions`.
    """
    mean, spread = env.actions(env.world.hand_set()).astype(float), np.full(env.n_params, 0.5)
    for turn in range(rounds):
        noise = normals(words(key(seed, 92, turn, np.arange(size)), -(-env.n_params // 4)))[:, : env.n_params]
        tries = np.clip(mean + spread * noise, -1, 1)
        n = max(n_sessions * min(4, 1 << (3 * turn // rounds)) // 4, 1)
        judged = judge_constants(env, tries, n_sessions=n, seed=seed + 1 + turn)
        elite = tries[np.argsort([one.session_return.mean() for one in judged])[-size // 4 :]]
        mean, spread = elite.mean(0), elite.std(0) + 0.02
    return mean.astype(np.float32)


def share_of_gap(policy: float, hand_set: float, oracle: float) -> float:
    """(policy - hand_set) / (oracle - hand_set); NaN where there is no gap.

    >>> share_of_gap(15.0, 10.0, 20.0)
    0.5
    """
    return (policy - hand_set) / (oracle - hand_set) if oracle > hand_set else float("nan")
