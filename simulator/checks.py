"""What every vector environment of sessions must keep; Gymnasium checks single environments only.

Each check takes a factory `make(num_envs)` and raises `AssertionError` with what is broken. `check_vector_env` runs them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from core.arrays import AnyArray

Env = VectorEnv[Any, Any, Any]
Make = Callable[[int], Env]
_STEPS = 40


def check_vector_env(make: Make) -> None:
    """Run every check."""
    for check in CHECKS:
        check(make)


def spaces_are_batched(make: Make) -> None:
    """The batched spaces have `num_envs` rows of the single ones."""
    env = make(3)
    for batched, single in ((env.observation_space, env.single_observation_space), (env.action_space, env.single_action_space)):
        assert batched.shape == (3, *(single.shape or ())), f"batched space has shape {batched.shape}, single has {single.shape}"
        assert batched.dtype == single.dtype, f"batched space is {batched.dtype}, single is {single.dtype}"


def returns_fit_the_spaces(make: Make) -> None:
    """Observations lie in their space; rewards are finite floats; endings are bools; all have one entry per environment."""
    env = make(3)
    obs, info = env.reset(seed=1)
    assert isinstance(info, dict), "reset must return an info dict"
    for action in _actions(env, 1):
        assert env.observation_space.contains(obs), "an observation lies outside its space"
        obs, reward, terminated, truncated, info = env.step(action)
        assert np.shape(reward) == (3,), f"rewards have shape {np.shape(reward)}"
        assert np.isfinite(reward).all(), "a reward is not finite"
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            assert np.shape(flag) == (3,), f"{name} has shape {np.shape(flag)}"
            assert np.asarray(flag).dtype == bool, f"{name} is {np.asarray(flag).dtype}, not bool"
        assert not (terminated & truncated).any(), "an episode both terminated and was truncated"


def seed_repeats_everything(make: Make) -> None:
    """The same seed and actions give the same bytes, in a new environment and after a reset of the same one."""
    env, other = make(4), make(4)
    first, second = _trace(env, 7), _trace(other, 7)
    assert _same(first, second), "two environments with one seed differ"
    assert _same(first, _trace(env, 7)), "an environment reset with the same seed differs"


def seeds_differ(make: Make) -> None:
    """Another seed gives another course."""
    assert not _same(_trace(make(4), 7), _trace(make(4), 8)), "seeds 7 and 8 give the same course"


def slots_differ(make: Make) -> None:
    """Environments of one batch are not copies of each other."""
    obs, _ = make(4).reset(seed=3)
    assert len(np.unique(np.asarray(obs), axis=0)) > 1, "all slots start with the same observation"


def global_generator_is_left_alone(make: Make) -> None:
    """Neither reads nor moves numpy's global generator."""
    np.random.seed(0)  # noqa: NPY002  # the global generator is what is being checked
    before = _global_state()
    first = _trace(make(3), 5)
    assert np.array_equal(before, _global_state()), "numpy's global generator was used"
    np.random.seed(1)  # noqa: NPY002  # see above
    assert _same(first, _trace(make(3), 5)), "the course depends on numpy's global generator"


def returns_are_not_overwritten(make: Make) -> None:
    """What a step returned does not change with the next step."""
    env = make(3)
    obs, _ = env.reset(seed=2)
    kept = np.array(obs)
    actions = _actions(env, 2)
    later, reward, *_ = env.step(actions[0])
    assert np.array_equal(kept, obs), "reset's observation was overwritten by step"
    seen, gained = np.array(later), np.array(reward)
    env.step(actions[1])
    assert np.array_equal(seen, later), "step's observation was overwritten by the next step"
    assert np.array_equal(gained, reward), "step's reward was overwritten by the next step"


def autoreset_is_as_declared(make: Make) -> None:
    """Same-step autoreset: ended slots carry `final_obs` and show the next episode's first observation."""
    env = make(4)
    assert env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP, "metadata does not declare the same-step autoreset"
    env.reset(seed=11)
    ended = 0
    for action in _actions(env, 11):
        obs, _, terminated, truncated, info = env.step(action)
        over = terminated | truncated
        if over.any():
            ended += int(over.sum())
            assert "final_obs" in info, "an episode ended without final_obs"
            assert np.array_equal(info["_final_obs"], over), "_final_obs does not mark the ended slots"
            assert not (info["final_obs"][over] == np.asarray(obs)[over]).all(1).any(), (
                "final_obs is the next episode's first observation"
            )
        else:
            assert "final_obs" not in info, "final_obs without an ended episode"
    assert ended, f"no episode ended in {_STEPS} steps of 4 environments; the check saw nothing"


def batch_size_changes_nothing(make: Make) -> None:
    """Slot `i` of a small batch and of a large one play the same first episode under the same actions."""
    small, large = make(2), make(5)
    a, b = np.asarray(small.reset(seed=9)[0]), np.asarray(large.reset(seed=9)[0])
    action = _actions(large, 9)[0]
    open_ = np.ones(2, bool)
    for _ in range(10):
        assert np.array_equal(a[open_], b[:2][open_]), "an episode depends on the number of environments"
        a, r_small, t_small, c_small, _ = small.step(action[:2])
        b, r_large, _, _, _ = large.step(action)
        assert np.array_equal(np.asarray(r_small)[open_], np.asarray(r_large)[:2][open_]), (
            "a reward depends on the number of environments"
        )
        open_ &= ~(t_small | c_small)


CHECKS: tuple[Callable[[Make], None], ...] = (
    spaces_are_batched,
    returns_fit_the_spaces,
    seed_repeats_everything,
    seeds_differ,
    slots_differ,
    global_generator_is_left_alone,
    returns_are_not_overwritten,
    autoreset_is_as_declared,
    batch_size_changes_nothing,
)


def _global_state() -> AnyArray:
    state: Any = np.random.get_state()  # noqa: NPY002  # the global generator is what is being checked
    return np.array(state[1])


def _actions(env: Env, seed: int) -> list[AnyArray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, env.action_space.shape or ()).astype(np.float32) for _ in range(_STEPS)]


def _trace(env: Env, seed: int) -> list[AnyArray]:
    obs, _ = env.reset(seed=seed)
    trace = [np.array(obs)]
    for action in _actions(env, 0)[:10]:  # one course of actions for every seed
        trace += [np.array(part) for part in env.step(action)[:4]]
    return trace


def _same(a: list[AnyArray], b: list[AnyArray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
