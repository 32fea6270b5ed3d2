"""Rollouts: the same bytes in any batch, the service's columns, honest propensities."""

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from core.events import Request, Slate
from core.scores import ScoreTable
from simulator import SessionEnv, World, rollout, transitions
from simulator.policies import constant, mixed_exploration, uniform_box


@pytest.fixture(scope="module")
def world() -> World:
    return World.make("default", seed=3, n_users=300, n_items=400, n_candidates=20)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_a_rollout_is_the_same_at_any_batch_size(world: World, batch: int) -> None:
    env, reference = SessionEnv(world, batch), SessionEnv(world, 17)
    policy = mixed_exploration(env.actions(world.hand_set()))
    assert rollout(env, policy, 30, seed=5).fingerprint() == rollout(reference, policy, 30, seed=5).fingerprint()
    lived = rollout(env, policy, seed=5, n_days=3, users=np.arange(40))
    assert lived.fingerprint() == rollout(reference, policy, seed=5, n_days=3, users=np.arange(40)).fingerprint()
    steps = transitions(env, policy, 30, seed=5)
    assert steps.fingerprint() == transitions(reference, policy, 30, seed=5).fingerprint()


def test_shards_of_sessions_make_up_the_whole(world: World) -> None:
    env = SessionEnv(world, 8)
    policy = uniform_box(env.actions(world.hand_set()))
    whole = rollout(env, policy, 40, seed=9)
    parts = [rollout(env, policy, 20, seed=9, first=first) for first in (0, 20)]
    for name in whole:
        assert np.array_equal(
            whole[name], np.concatenate([part[name] for part in parts]), equal_nan=whole[name].dtype.kind == "f"
        ), name


def test_another_seed_gives_other_sessions(world: World) -> None:
    env = SessionEnv(world, 8)
    policy = constant(env.actions(world.hand_set()))
    assert rollout(env, policy, 10, seed=1).fingerprint() != rollout(env, policy, 10, seed=2).fingerprint()


def test_transitions_chain_within_a_session(world: World) -> None:
    env = SessionEnv(world, 6)
    steps = transitions(env, constant(env.actions(world.hand_set())), 50, seed=4)
    same = (steps["session"][1:] == steps["session"][:-1]).nonzero()[0]
    assert len(same) > 20
    assert np.array_equal(steps["next_obs"][same], steps["obs"][same + 1])
    over = steps["terminated"] | steps["truncated"]
    assert over.sum() == 50
    assert np.array_equal(np.flatnonzero(over), np.r_[np.flatnonzero(np.diff(steps["session"])), len(steps) - 1])


def test_kept_candidates_explain_the_slate(world: World) -> None:
    env = SessionEnv(world, 6)
    weights = world.hand_set()
    steps = transitions(env, constant(env.actions(weights)), 20, seed=4, candidates=True)
    scores = steps["candidate_scores"].reshape(len(steps), world.settings.n_candidates, -1).astype(np.float32)
    best = world.fuse(np.tile(weights, (len(steps), 1)), scores).argmax(1)
    agree = steps["candidates"][np.arange(len(steps)), best] == steps["slate"][:, 0]
    assert agree.mean() > 0.95, "but for the rounding to float16"


@pytest.mark.parametrize("batch", [1, 6])
def test_positions_add_up_to_the_page(world: World, batch: int) -> None:
    env = SessionEnv(world, batch)
    steps = transitions(env, mixed_exploration(env.actions(world.hand_set())), 20, seed=4, candidates=True)
    assert steps["position_rewards"].shape == steps["slate"].shape
    np.testing.assert_allclose(steps["position_rewards"].sum(1), steps["reward"], rtol=1e-5)
    for task in world.tasks.names:
        np.testing.assert_allclose(steps[f"at_{task}"].sum(1), steps[task], rtol=1e-5)
    assert steps["at_watch_s"][:, 0].mean() > steps["at_watch_s"][:, -1].mean(), "the first position is looked at most"
    same = transitions(SessionEnv(world, 17), mixed_exploration(env.actions(world.hand_set())), 20, seed=4, candidates=True)
    assert steps.fingerprint() == same.fingerprint()


def test_recommend_sees_requests_and_shows_its_slate(world: World) -> None:
    seen: list[Request] = []

    def last_first(request: Request) -> Slate:
        seen.append(request)
        items = request.candidates[::-1][: request.page_size]
        scores = ScoreTable(("click",), np.zeros((len(items), 1)))
        return Slate(request.request_id, items, -np.arange(len(items), dtype=float), scores, "stub", {}, propensity=0.5)

    log = rollout(SessionEnv(world, 3), seed=1, n_sessions=5, recommend=last_first)
    by_id = {request.request_id: request for request in seen}
    first = log.take(log["position"] == 1)
    assert all(by_id[r].candidates[-1] == i for r, i in zip(first["request_id"], first["item_id"], strict=True))
    assert set(log["propensity"]) == {0.5}


def test_a_slate_with_a_foreign_item_is_refused(world: World) -> None:
    def foreign(request: Request) -> Slate:
        items = np.arange(10_000, 10_000 + request.page_size)
        return Slate(
            request.request_id, items, np.zeros(len(items)), ScoreTable(("click",), np.zeros((len(items), 1))), "stub", {}
        )

    with pytest.raises(DataError, match="different candidates"):
        rollout(SessionEnv(world, 2), seed=1, n_sessions=2, recommend=foreign)


def test_wrong_calls_say_so(world: World) -> None:
    env = SessionEnv(world, 2)
    policy = constant(np.zeros(env.n_params))
    with pytest.raises(ConfigError, match="one of the two"):
        rollout(env, policy, seed=1)
    with pytest.raises(ConfigError, match="one of: a policy"):
        rollout(env, None, 3, seed=1)
    with pytest.raises(ConfigError, match="formula needs"):
        rollout(env, constant(np.zeros(3)), 3, seed=1)
