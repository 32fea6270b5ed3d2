"""The service's tables of a rollout: the store takes them, and what it reads out is what happened."""

from pathlib import Path

import numpy as np
import pytest

from experiment.store import open_store
from fusion.policy.events import PolicyNames, from_events
from fusion.policy.reward import Reward
from simulator import SessionEnv, World, rollout, transitions
from simulator.policies import Policy, constant, mixed_exploration, uniform_box
from simulator.service_log import service_log

WORLD = World.make("default", seed=3, n_users=60, n_items=120, n_candidates=12)


def _env() -> SessionEnv:
    return SessionEnv(WORLD, 8)


def _policy(name: str) -> Policy:
    hand_set = _env().actions(WORLD.hand_set())
    return {"mixed": mixed_exploration(hand_set), "box": uniform_box(hand_set), "constant": constant(hand_set)}[name]


def test_the_store_reads_out_the_rollouts_impressions(tmp_path: Path) -> None:
    log = rollout(_env(), _policy("mixed"), 12, seed=5)
    store = open_store(f"duckdb://{tmp_path / 'events.duckdb'}")
    try:
        store.append(**service_log(_env(), _policy("mixed"), 12, seed=5))
        read = store.log(tasks=WORLD.tasks.names)
    finally:
        store.close()
    ours, theirs = (np.lexsort([part["position"], part["request_id"]]) for part in (log, read))
    for name in ("request_id", "item_id", "position", "propensity", "score_click", "final", *WORLD.tasks.names):
        assert np.array_equal(log[name][ours], read[name][theirs]), name


def test_its_requests_are_the_rollouts_transitions() -> None:
    steps = transitions(_env(), _policy("mixed"), 12, seed=5)
    tables = service_log(_env(), _policy("mixed"), 12, seed=5)
    requests = tables["requests"].append_column("user_key", [tables["requests"]["user_id"].cast("int64")])
    env, settings = _env(), WORLD.settings
    names = PolicyNames(env.observer.names, WORLD.tasks.names, env.low.astype(float), env.high.astype(float), WORLD.tasks.names)
    until = int(np.max(tables["requests"]["time_ms"].to_numpy())) + 10**9
    table = from_events(
        requests, tables["feedback"].group_by(["request_id", "task"]).aggregate([("value", "sum")]).rename_columns(
            ["request_id", "task", "value"]
        ), names=names, reward=Reward({"all": settings.reward}), until_ms=until, step_limit=settings.step_limit,
    )  # fmt: skip
    assert len(table) == len(steps)
    order = np.lexsort([steps["step"], steps["session"].astype(str)])
    assert sorted(map(float, table.reward)) == pytest.approx(sorted(map(float, steps["reward"][order])), abs=1e-4)


def test_what_each_position_earned_is_the_rollouts_too() -> None:
    steps = transitions(_env(), _policy("mixed"), 12, seed=5, candidates=True)
    tables = service_log(_env(), _policy("mixed"), 12, seed=5)
    requests = tables["requests"].append_column("user_key", [tables["requests"]["user_id"].cast("int64")])
    env, settings = _env(), WORLD.settings
    names = PolicyNames(env.observer.names, WORLD.tasks.names, env.low.astype(float), env.high.astype(float), WORLD.tasks.names)
    table = from_events(
        requests, tables["feedback"], tables["exposures"], names=names, reward=Reward({"all": settings.reward}),
        until_ms=int(np.max(tables["requests"]["time_ms"].to_numpy())) + 10**9, step_limit=settings.step_limit,
    )  # fmt: skip
    assert table.position_rewards is not None
    ours, theirs = (np.asarray(x)[np.lexsort(np.asarray(x).T)] for x in (table.position_rewards, steps["position_rewards"]))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_densities_are_those_of_the_policies() -> None:
    mixed, box, fixed = (service_log(_env(), _policy(n), 6, seed=5)["requests"] for n in ("mixed", "box", "constant"))
    assert set(mixed["component"].to_pylist()) == {"wide", "near"}
    assert (mixed["propensity"].to_numpy() >= 0.5 * mixed["component_density"].to_numpy() - 1e-12).all()
    assert box["box"].to_numpy() == pytest.approx(0.15, abs=1e-6)
    assert set(fixed["component"].to_pylist()) == {""}
    assert np.isnan(fixed["propensity"].to_numpy()).all()
    assert fixed["action"].to_pylist() == fixed["baseline"].to_pylist()
