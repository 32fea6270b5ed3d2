"""The Gymnasium side: Gymnasium's own checker, registration, actions, errors."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from core.errors import ConfigError
from simulator import ENV_ID, SessionEnv, SingleSessionEnv, World


@pytest.fixture(scope="module")
def world() -> World:
    return World.make("default", seed=2, n_users=120, n_items=200, n_candidates=12)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasium_accepts_the_single_view(world: World) -> None:
    check_env(SingleSessionEnv(world), skip_render_check=True)


def test_both_views_are_registered(world: World) -> None:
    single = gymnasium.make(ENV_ID, world=world)
    vector = gymnasium.make_vec(ENV_ID, num_envs=3, vectorization_mode="vector_entry_point", world=world)
    assert single.observation_space.shape == vector.single_observation_space.shape
    assert vector.reset(seed=1)[0].shape[0] == 3


def test_the_single_view_plays_the_sessions_of_the_vector_one(world: World) -> None:
    single, vector = SingleSessionEnv(world), SessionEnv(world, 1)
    action = np.zeros(vector.n_params, np.float32)
    one, many = single.reset(seed=5)[0], vector.reset(seed=5)[0]
    for _ in range(30):
        assert np.array_equal(one, many[0])
        one, reward, left, cut, info = single.step(action)
        many, rewards, *_ = vector.step(action[None])
        assert reward == rewards[0]
        assert info["user_id"] >= 0
        if left or cut:
            one = single.reset()[0]


def test_actions_map_to_weights_and_back(world: World) -> None:
    env = SessionEnv(world, 2)
    weights = env.weights(np.array([[-1.0] * env.n_params, [1.0] * env.n_params]))
    assert np.array_equal(weights[0], env.low)
    assert np.array_equal(weights[1], env.high)
    assert env.low[world.tasks.names.index("hate")] == -1
    assert np.allclose(env.weights(env.actions(weights)), weights)


def test_any_formula_can_be_injected(world: World) -> None:
    env = SessionEnv(world, 4, fuse=lambda w, s: w[:, :1] * s[..., 0], low=np.zeros(1, np.float32), high=np.ones(1, np.float32))
    env.reset(seed=1)
    env.step(np.ones((4, 1), np.float32))
    shown = np.take_along_axis(env.sessions.items, np.zeros((4, 1), np.int64), 1)
    assert shown.shape == (4, 1)
    assert (np.diff(env.final, axis=1) <= 0).all(), "a page is ordered by the formula"


def test_a_real_ranker_can_take_the_place_of_the_simulated_one(world: World) -> None:
    tasks = world.tasks.names

    def ranker(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.repeat((items % 7)[..., None], len(tasks), axis=2) / 10

    env = SessionEnv(world, 3, ranker=ranker)
    env.reset(seed=1)
    assert np.allclose(env.sessions.scores[..., 0], (env.sessions.items % 7) / 10)
    with pytest.raises(ConfigError, match="lacks task 'long_view'"):
        SessionEnv(world, 3, ranker=ranker, ranker_tasks=("click",))


def test_wrong_use_says_so(world: World) -> None:
    with pytest.raises(ConfigError, match="num_envs 0"):
        SessionEnv(world, 0)
    with pytest.raises(ConfigError, match="low below high"):
        SessionEnv(world, 1, low=np.ones(2, np.float32), high=np.zeros(2, np.float32))
    env = SessionEnv(world, 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros((2, env.n_params), np.float32))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="finite numbers"):
        env.step(np.full((2, env.n_params), np.nan, np.float32))
    with pytest.raises(ConfigError, match="negative"):
        env.reset(seed=-1)
