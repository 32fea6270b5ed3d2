"""Search a formula's weights on a simulated log, then ask the simulator what the choice is really worth.

Run: python examples/search_a_formula.py
"""

from __future__ import annotations

import numpy as np

from core.arrays import Floats32
from core.tasks import TaskSet
from fusion.formula.families import family
from fusion.search import Objective, Param, Space, mtf_gauc, search, split_days
from simulator.env import SessionEnv
from simulator.policies import constant, mixed_exploration
from simulator.rollout import rollout
from simulator.world import World


def main(n_users: int = 600, n_trials: int = 256, seed: int = 7) -> dict[str, float]:
    """Search on days 1 to 5, hold out the last two, then let the same users live under both formulas."""
    world = World.make("default", seed=seed, n_users=n_users, n_items=2000, n_candidates=50)
    env = SessionEnv(world, 256)

    # 1. a log of mixed exploration: the scores in it are the simulated ranker's, so they are out of sample
    log = rollout(env, mixed_exploration(np.zeros(env.n_params)), n_days=7, seed=seed)
    log = log.with_columns({"date": log["time_ms"] // 86_400_000})
    earlier, later = split_days(log, n_heldout=2)

    # 2. what one behaviour is worth, and a formula family to search
    tasks = TaskSet([world.tasks[name] for name in ("click", "like", "share", "purchase", "watch_s")])
    gains = {name: world.settings.reward[name] for name in tasks.names}
    weights = world.formula_weights(world.hand_set())
    chosen = family("weighted_sum", tasks)
    result = search(
        chosen.formula,
        earlier,
        later,
        space=Space([Param(name, *chosen.ranges[name]) for name in chosen.formula.params], chosen.scale_free),
        objective=Objective([mtf_gauc(gains)]),
        hand_set={name: weights[name] for name in tasks.names if weights[name] > 0},
        searcher="cem",
        n_trials=n_trials,
        seed=seed,
        progress=False,
    )
    print(result.formula)
    print({name: round(value, 4) for name, value in result.weights.items()})

    # 3. the truth: reward per page when the searched weights really rank
    found = np.zeros(len(world.tasks), np.float32)
    for name in tasks.names:
        found[world.tasks.names.index(name)] = result.weights[f"w_{name}"] / world.unit[world.tasks.names.index(name)]
    return {
        "hand_set, later days": result.hand_set.value_heldout,
        "searched, later days": result.value_heldout,
        "hand_set, reward per page": _reward(env, world.hand_set(), seed),
        "searched, reward per page": _reward(env, found, seed),
    }


def _reward(env: SessionEnv, weights: Floats32, seed: int) -> float:
    """Mean reward a page of 3,000 sessions under constant weights (in units of average occurrences)."""
    scaled = weights / np.abs(weights).max()
    shown = rollout(env, constant(env.actions(scaled[None])[0]), 3000, seed=seed + 1)
    reward = sum(shown[task] * worth for task, worth in env.world.settings.reward.items())
    return float(np.sum(reward) / len(np.unique(shown["request_id"].astype(str))))


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:26s} {value:.4f}")
