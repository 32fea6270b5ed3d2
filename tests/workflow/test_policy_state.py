"""What a policy sees online, built from the request's context, is what the simulator's observation says."""

from __future__ import annotations

import numpy as np
import pytest

from core.arrays import AnyArray
from core.events import Request, Slate
from core.scores import ScoreTable
from simulator.env import SessionEnv
from simulator.rollout import rollout
from workflow.policy_state import state_of


@pytest.mark.parametrize("preset", ["default", "two_scenarios"])
def test_the_state_online_is_the_simulator_s_observation(preset: str) -> None:
    env = SessionEnv(preset, num_envs=4, overrides={"n_users": 40, "n_items": 300, "n_candidates": 10})
    spec, columns = state_of(env.world)
    users = env.world.user_columns()
    names = env.world.tasks.names
    slot, gaps = [0], []

    def recommend(request: Request) -> Slate:
        """Rank by the first task, and compare what both sides see on the way; requests come slot by slot."""
        at = slot[0] % 4
        slot[0] += 1
        scores = ScoreTable(names, env.sessions.scores[at].astype(float))
        user = {name: column[int(request.user_id)] for name, column in users.items()}
        seen = spec.see(user, {**request.context, "scenario": request.scenario}, scores)
        told: AnyArray = env.observer.see(env.sessions)[at][columns]
        gaps.append(np.abs(seen - told).max())
        order = np.argsort(-scores.values[:, 0], kind="stable")[: request.page_size]
        final = scores.values[order, 0]
        return Slate(request.request_id, request.candidates[order], final, scores.take(order), "s", {})

    rollout(env, recommend=recommend, n_days=3, users=np.arange(12), seed=2)
    assert len(gaps) > 40
    assert max(gaps) < 1e-5
    assert len(spec) == env.observer.size


def test_a_ranker_of_fewer_tasks_leaves_their_scores_out() -> None:
    env = SessionEnv("default", overrides={"n_users": 20, "n_items": 100, "n_candidates": 10})
    spec, columns = state_of(env.world, ["click", "like"])
    assert spec.tasks == ("click", "like")
    assert [env.observer.names[i] for i in columns] == list(spec.names)
    assert len(spec) == env.observer.size - 2 * (len(env.world.tasks) - 2)
