"""A simulated world as the ground policies are trained and judged on: logs, play for searches, returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError
from fusion.policy.learner.non_rl import Play, Start
from fusion.policy.networks import PolicyNet
from fusion.policy.reward import Reward
from fusion.policy.transitions import Transitions
from simulator.env import SessionEnv
from simulator.judge import Judged, judge
from simulator.policies import Action, Baseline, Draw, Policy, deterministic, mixed_exploration, uniform_box
from simulator.rollout import transitions
from simulator.world import World

STICKINESS: Final = ("long_view", "complete", "watch_s")  # behaviours of staying; all others are activeness
EXPLORATIONS: Final = ("mixed", "random", "box")
GRID_TASKS: Final = ("watch_s", "complete", "like")
GATE: Final = ("cohort_",)  # what may tilt an action's effect in these worlds: who the user is said to be


@dataclass(frozen=True)
class Ground:
    """A world's environment, the hand-set action `[n_params]` and the world's own reward in two groups."""

    env: SessionEnv
    hand_set: Floats32
    reward: Reward

    @classmethod
    def of(cls, world: World, *, n_slots: int = 500) -> Ground:
        """The ground of a world."""
        env = SessionEnv(world, n_slots)
        gains = world.settings.reward
        groups: dict[str, Mapping[str, float]] = {
            "stickiness": {task: gain for task, gain in gains.items() if task in STICKINESS},
            "activeness": {task: gain for task, gain in gains.items() if task not in STICKINESS},
        }
        return cls(env, env.actions(world.hand_set()), Reward({name: part for name, part in groups.items() if part}))

    def terms(self, scores: AnyArray) -> AnyArray:
        """What each weight multiplies, `[n, N, n_params]`: scores `[n, N, n_tasks]` in average occurrences."""
        return np.asarray(scores, np.float32) * self.env.world.unit

    def start(self) -> Start:
        """Where searches begin."""
        tasks, names = self.env.world.tasks.names, self.env.observer.names
        gate = [i for i, name in enumerate(names) if name.startswith(GATE)]
        grid = [tasks.index(task) for task in GRID_TASKS if task in tasks]
        return Start(self.hand_set.astype(float), len(names), grid=grid or [0], gate=gate)

    def log(
        self,
        n_sessions: int,
        *,
        seed: int,
        exploration: str = "mixed",
        baseline: PolicyNet | None = None,
        reward: Reward | None = None,
        box: float = 0.15,
        candidates: bool = False,
        progress: bool = False,
    ) -> Transitions:
        """Sessions logged with exploration around a policy, hand-set weights by default.

        Args:
            exploration: `mixed` (half a wide Gaussian, half the baseline plus noise of .1, as BatchRL-MTF), `random` (the wide
                Gaussian alone) or `box` (uniform within `box` of the baseline, as UnifiedRL).
            reward: Another reward than the world's.
            candidates: Keep every candidate's scores, for off-policy weights of slates.
        """
        center: Baseline = self.hand_set if baseline is None else Acting(baseline)
        policy: Policy
        if exploration == "box":
            policy = uniform_box(center, half=box)
        elif exploration in EXPLORATIONS:
            policy = mixed_exploration(center, share=0.5 if exploration == "mixed" else 1.0)
        else:
            raise ConfigError(f"exploration {exploration!r} must be one of {', '.join(EXPLORATIONS)}")
        log = transitions(self.env, policy, n_sessions, seed=seed, candidates=candidates, progress=progress)
        return Transitions.from_log(
            log.columns,
            obs_names=self.env.observer.names,
            param_names=[f"w_{task}" for task in self.env.world.tasks.names],
            low=self.env.low,
            high=self.env.high,
            reward=reward or self.reward,
            task_names=self.env.world.tasks.names,
        )

    def play(self, seed: int) -> Play:
        """Sessions of many policies side by side, as `non_rl` wants them; every call takes fresh sessions."""
        turn = 0

        def play(nets: Sequence[PolicyNet], n: int) -> Floats:
            nonlocal turn
            turn += 1
            many = Many(self.env, nets)
            found = judge(self.env, many, n_sessions=n * len(nets), seed=seed * 1000 + turn)
            return found.session_return.reshape(n, len(nets)).T

        return play

    def judge(self, net: PolicyNet, *, n_sessions: int, seed: int) -> Judged:
        """What a policy comes to without exploring."""
        return judge(self.env, deterministic(Acting(net)), n_sessions=n_sessions, seed=seed)


class Many:
    """A policy that lets net `e % len(nets)` act in session number `e`."""

    def __init__(self, env: SessionEnv, nets: Sequence[PolicyNet]) -> None:
        self._env, self._acts = env, [Acting(net) for net in nets]

    def __call__(self, obs: Floats32, draw: Draw) -> Action:
        """See `simulator.policies.Policy`."""
        mine = self._env.sessions.session % len(self._acts)
        action = np.zeros((len(obs), self._env.n_params), np.float32)
        for number, act in enumerate(self._acts):
            rows = np.flatnonzero(mine == number)
            if len(rows):
                action[rows] = act(obs[rows])
        return Action(action, np.full(len(obs), np.nan))


class Acting:
    """A net as a function of numpy observations; a net that samples draws from a generator of its own, seeded once."""

    def __init__(self, net: PolicyNet, seed: int = 0) -> None:
        self._net, self._generator = net, torch.Generator().manual_seed(seed)

    def __call__(self, obs: Floats32) -> Floats32:
        """`[B, n_obs]` to `[B, n_params]`."""
        with torch.inference_mode():
            found: Floats32 = self._net.act(torch.from_numpy(obs), self._generator).numpy()
        return found
