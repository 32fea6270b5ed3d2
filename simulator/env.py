"""The Gymnasium environments: an action is the parameters of a fusion formula, an episode is one user's session.

`SessionEnv` is the vector environment (autoreset in the same step, as `metadata` says); `SingleSessionEnv` is its view with
one slot. Both are registered as `scorefusion/Session-v1`, so `gymnasium.make` and `gymnasium.make_vec` find them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from core.arrays import AnyArray, Floats32, Ints
from core.errors import ConfigError
from simulator.episodes import LoneSessions
from simulator.observation import BOUND, Observer
from simulator.predictions import Ranker
from simulator.session import Page, Sessions, top
from simulator.world import World

ENV_ID = "scorefusion/Session-v1"
Fuse = Callable[[Floats32, Floats32], Floats32]  # weights [B, P], scores [B, N, n_tasks] -> final [B, N]


class SessionEnv(VectorEnv[Floats32, Floats32, AnyArray]):
    """Sessions of `num_envs` simulated users.

    Args:
        world: A world, or a preset's name (then `world_seed` and `overrides` make it).
        fuse: The formula; the world's weighted sum in average occurrences by default.
        low, high: Bounds `[n_params]` that actions -1 and 1 stand for; by default 0 to 1, and -1 to 0 for unwanted behaviours.
        ranker, ranker_tasks: See `Sessions`.

    `info` of a step holds arrays of `num_envs`: the task names with the page's counts, `user_id`, `session`, `step`; for
    sessions that
    ended (`_final_obs`) `final_obs` (with the last page's candidates: none are drawn for a page that is not shown), `days_away`,
    `session_return`. The seed of `reset` names the random streams:
    the same seed gives session number `e` the same course in any number of slots.

    >>> env = SessionEnv("default", num_envs=2, overrides={"n_users": 50, "n_items": 300})
    >>> obs, info = env.reset(seed=3)
    >>> obs.shape == (2, env.observer.size), env.step(env.action_space.sample())[1].shape
    (True, (2,))
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # as gymnasium declares it

    def __init__(
        self,
        world: World | str = "default",
        num_envs: int = 1,
        *,
        fuse: Fuse | None = None,
        low: Floats32 | None = None,
        high: Floats32 | None = None,
        ranker: Ranker | None = None,
        ranker_tasks: tuple[str, ...] | None = None,
        world_seed: int = 0,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.world = world if isinstance(world, World) else World.make(world, seed=world_seed, **(overrides or {}))
        if num_envs < 1:
            raise ConfigError(f"num_envs {num_envs} must be at least 1")
        self.num_envs = num_envs
        self.fuse: Fuse = fuse or self.world.fuse
        self.low = np.minimum(self.world.up, 0) if low is None else np.asarray(low, np.float32)
        self.high = np.maximum(self.world.up, 0) if high is None else np.asarray(high, np.float32)
        if self.low.shape != self.high.shape or self.low.ndim != 1 or not (self.low < self.high).all():
            raise ConfigError("low and high must be equally long, low below high everywhere; they bound the formula's parameters")
        self.n_params = len(self.low)
        self.sessions = Sessions(self.world, num_envs, ranker=ranker, ranker_tasks=ranker_tasks)
        self.observer = Observer(self.world)
        self.single_observation_space = gymnasium.spaces.Box(-BOUND, BOUND, (self.observer.size,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.n_params,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = dict(self.metadata)
        self._returns = np.zeros(num_envs, np.float32)
        self._source: LoneSessions | None = None
        self.page: Page | None = None
        self.final: Floats32 = np.zeros((num_envs, self.world.settings.page_size), np.float32)

    def weights(self, actions: Floats32) -> Floats32:
        """The formula's parameters that actions in [-1, 1] stand for, `[B, n_params]`; outside is clipped."""
        clipped = np.clip(np.asarray(actions, np.float32), np.float32(-1), np.float32(1))
        scaled: Floats32 = self.low + (clipped + np.float32(1)) * np.float32(0.5) * (self.high - self.low)
        return scaled

    def actions(self, weights: Floats32) -> Floats32:
        """The inverse of `weights`."""
        scaled: Floats32 = np.clip(2 * (np.asarray(weights, np.float32) - self.low) / (self.high - self.low) - 1, -1, 1)
        return scaled

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats32, dict[str, Any]]:
        """Start session number `options["first"]` (0 by default) and its followers; without a seed the sessions go on where
        they were."""
        if seed is not None or self._source is None:
            if seed is None:
                seed = int(self.np_random.integers(2**31))
            elif seed < 0:
                raise ConfigError(f"seed {seed} must not be negative")
            else:
                self._np_random, self._np_random_seed = gymnasium.utils.seeding.np_random(seed)
            self._source = LoneSessions(self.sessions, seed, first=int((options or {}).get("first", 0)))
        self._source.start()
        self._returns[:] = 0
        self.sessions.offer()
        return self.observer.see(self.sessions), self.identity()

    def step(self, actions: Floats32) -> tuple[Floats32, AnyArray, AnyArray, AnyArray, dict[str, Any]]:
        """Fuse, show a page, let users act, leave or stay; slots whose session ended show the next one's first observation."""
        if self._source is None:
            raise gymnasium.error.ResetNeeded("call reset before step")
        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.num_envs, self.n_params) or not np.isfinite(actions).all():
            raise ConfigError(f"actions of shape {actions.shape} must be [{self.num_envs}, {self.n_params}] finite numbers")
        final = self.fuse(self.weights(actions), self.sessions.scores)
        page = self.page = self.sessions.show(top(final, self.world.settings.page_size))
        self.final = np.take_along_axis(final, page.rows, 1)
        self._returns += page.reward
        info = {**self.identity(), **dict(zip(self.world.tasks.names, page.counts.T.copy(), strict=True))}
        over = page.left | page.cut
        if over.any():
            slots = np.flatnonzero(over)
            last = np.zeros((self.num_envs, self.observer.size), np.float32)
            last[slots] = self.observer.see(self.sessions)[slots]
            info |= {"final_obs": last, "_final_obs": over, "days_away": np.where(over, page.days_away, -1)}
            info |= {"session_return": np.where(over, self._returns, 0).astype(np.float32)}
            self._returns[over] = 0
            self._source.follow(slots, page)
        self.sessions.offer()
        return self.observer.see(self.sessions), page.reward, page.left, page.cut, info

    def close_source(self) -> None:
        """Forget the running sessions: a rollout takes the slots over, and the next use starts with `reset`."""
        self._source = None

    def identity(self) -> dict[str, Any]:
        """Who is in the slots: `user_id`, `session`, `step`, `[num_envs]` each."""
        now: dict[str, Ints] = {"user_id": self.sessions.user, "session": self.sessions.session, "step": self.sessions.step}
        return {name: value.copy() for name, value in now.items()}


class SingleSessionEnv(gymnasium.Env[Floats32, Floats32]):
    """One session at a time: the vector environment with one slot, without autoreset."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]  # gymnasium declares it per instance

    def __init__(self, world: World | str = "default", *, render_mode: str | None = None, **options: Any) -> None:
        self.render_mode = render_mode
        self._waiting: tuple[Floats32, dict[str, Any]] | None = None  # the next session, which the autoreset has begun
        self._vector = SessionEnv(world, 1, **options)
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats32, dict[str, Any]]:
        """The next session; with a seed, the first one of that seed."""
        super().reset(seed=seed)
        if seed is None and not options and self._waiting is not None:
            (obs, info), self._waiting = self._waiting, None
            return obs, info
        seen, arrays = self._vector.reset(seed=seed, options=options)
        return seen[0], {name: value[0] for name, value in arrays.items()}

    def step(self, action: Floats32) -> tuple[Floats32, float, bool, bool, dict[str, Any]]:
        """One page; see `SessionEnv`."""
        obs, reward, left, cut, info = self._vector.step(np.asarray(action)[None])
        over = bool(left[0] or cut[0])
        self._waiting = (obs[0], {name: value[0] for name, value in self._vector.identity().items()}) if over else None
        seen = info["final_obs"] if over else obs
        kept = {name: value[0] for name, value in info.items() if not name.endswith("final_obs")}
        return seen[0], float(reward[0]), bool(left[0]), bool(cut[0]), kept


def register() -> None:
    """Make `gymnasium.make("scorefusion/Session-v1")` and `gymnasium.make_vec(...)` work; called on import, harmless twice."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(ENV_ID, entry_point="simulator.env:SingleSessionEnv", vector_entry_point="simulator.env:SessionEnv")
