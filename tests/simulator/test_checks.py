"""The vector checker: our environment keeps every check, and each deliberately broken one fails the check meant for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.arrays import AnyArray, Floats32
from simulator import SessionEnv, World, checks
from simulator.checks import CHECKS, Make

WORLD = World.make("default", seed=2, n_users=120, n_items=200, n_candidates=12)
Step = tuple[Floats32, AnyArray, AnyArray, AnyArray, dict[str, Any]]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_session_env_keeps(check: Callable[[Make], None]) -> None:
    check(lambda n: SessionEnv(WORLD, n))


def test_check_vector_env_runs_them_all() -> None:
    checks.check_vector_env(lambda n: SessionEnv(WORLD, n))


class _IgnoresSeed(SessionEnv):
    made = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats32, dict[str, Any]]:
        _IgnoresSeed.made += 1
        return super().reset(seed=_IgnoresSeed.made, options=options)


class _OneSeed(SessionEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats32, dict[str, Any]]:
        return super().reset(seed=0, options=options)


class _Copies(SessionEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats32, dict[str, Any]]:
        obs, info = super().reset(seed=seed, options=options)
        return np.repeat(obs[:1], len(obs), axis=0), info


class _GlobalRandom(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        return obs, reward + np.float32(np.random.rand()), left, cut, info  # noqa: NPY002  # broken on purpose


class _ReusesBuffers(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        self.buffer = getattr(self, "buffer", np.zeros_like(obs))
        self.buffer[:] = obs
        return self.buffer, reward, left, cut, info


class _NoFinal(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        info.pop("final_obs", None)
        return obs, reward, left, cut, info


class _NanReward(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        return obs, np.where(reward > np.inf, reward, np.nan), left, cut, info


class _IntFlags(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        return obs, reward, left.astype(int), cut, info


class _BatchDependent(SessionEnv):
    def step(self, actions: Floats32) -> Step:
        obs, reward, left, cut, info = super().step(actions)
        return obs, reward / self.num_envs + 1, left, cut, info


class _WrongSpace(SessionEnv):
    def __init__(self, world: World, num_envs: int) -> None:
        super().__init__(world, num_envs)
        self.observation_space = self.single_observation_space


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_IgnoresSeed, checks.seed_repeats_everything),
        (_OneSeed, checks.seeds_differ),
        (_Copies, checks.slots_differ),
        (_GlobalRandom, checks.global_generator_is_left_alone),
        (_ReusesBuffers, checks.returns_are_not_overwritten),
        (_NoFinal, checks.autoreset_is_as_declared),
        (_NanReward, checks.returns_fit_the_spaces),
        (_IntFlags, checks.returns_fit_the_spaces),
        (_BatchDependent, checks.batch_size_changes_nothing),
        (_WrongSpace, checks.spaces_are_batched),
    ],
    ids=lambda x: x.__name__,
)
def test_a_broken_environment_is_caught(broken: type[SessionEnv], check: Callable[[Make], None]) -> None:
    with pytest.raises(AssertionError):
        check(lambda n: broken(WORLD, n))
