"""Policies to tell apart: variations of the hand-set weights, by cohort and by state, and a few that are plainly bad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.arrays import AnyArray, Floats, Floats32
from simulator.env import SessionEnv

Mean = Callable[[Floats32], AnyArray]
KINDS = ("constant", "cohort", "state", "needs", "others' needs")


def policies(env: SessionEnv, n: int, seed: int) -> dict[str, Mean]:
    """`n` policies by name, each a function from states to mean actions.

    All begin at the hand-set weights, shaken by a factor; `cohort` and `state` add random weights by columns of the state,
    `needs` adds what each cohort comes for, `others' needs` what another cohort comes for: so some are better and some worse.
    """
    rng = np.random.default_rng(seed)
    names, tasks, settings = env.observer.names, env.world.tasks.names, env.world.settings
    hand = np.abs(env.world.hand_set()).astype(float)
    cohorts = [names.index(f"cohort_{cohort}") for cohort in settings.cohorts]
    needs = np.array([[abs(need.get(task, 0.0)) for task in tasks] for need in settings.cohorts.values()])  # (C, T)
    found: dict[str, Mean] = {}
    for index in range(n):
        kind = KINDS[index % len(KINDS)]
        weights = hand * np.exp(0.4 * rng.normal(size=len(tasks)))
        by_state = np.zeros((len(names), len(tasks)))
        if kind == "constant":
            weights += (rng.random(len(tasks)) < 0.5) * rng.exponential(0.6, len(tasks))
        elif kind == "cohort":
            by_state[cohorts] = (rng.random(needs.shape) < 0.3) * rng.exponential(0.7, needs.shape)
        elif kind == "state":
            by_state[names.index("step")] = rng.normal(0, 1.0, len(tasks))
            by_state[names.index("past_click")] = rng.normal(0, 0.4, len(tasks))
        else:
            order = np.arange(len(needs)) if kind == "needs" else np.roll(np.arange(len(needs)), 1 + rng.integers(len(needs) - 1))
            by_state[cohorts] = rng.uniform(0.1, 0.7) * needs[order]
        found[f"{kind} {index}"] = _mean(env, weights, by_state)
    return found


def bad_policies(env: SessionEnv) -> dict[str, Mean]:
    """One behaviour alone, of those that alone make a poor page."""
    tasks = list(env.world.tasks.names)
    none = np.zeros((len(env.observer.names), len(tasks)))
    return {f"only {task}": _mean(env, np.eye(len(tasks))[tasks.index(task)], none) for task in ("hate", "share", "complete")}


def _mean(env: SessionEnv, weights: Floats, by_state: Floats) -> Mean:
    def mean(obs: Floats32) -> AnyArray:
        raw = np.maximum(weights + obs @ by_state, 0)
        scaled = raw / np.maximum(raw.max(1, keepdims=True), 1e-9)
        return env.actions((scaled * env.world.up).astype(np.float32))

    return mean
