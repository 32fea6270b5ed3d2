"""The demo's policy: explore in the simulator with the trained ranker, learn from that log, judge against hand_set, publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.arrays import AnyArray, Floats32
from fusion.formula.families import weighted_sum_of
from fusion.policy.exploration import Exploration
from fusion.policy.learner.recipes import OURS
from fusion.policy.networks import PolicyNet, build
from fusion.policy.reward import Reward
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Transitions
from ranker.predictor import Predictor
from simulator.env import SessionEnv
from simulator.judge import judge
from simulator.policies import Policy, constant, deterministic, mixed_exploration
from simulator.rollout import transitions
from simulator.world import World
from workflow.policy_state import state_of
from workflow.policy_world import GATE, Acting
from workflow.world_ranker import WorldRanker

ALGORITHM = "td3_bc"
SETTINGS: Mapping[str, Any] = {**OURS[ALGORITHM], "gate": list(GATE)}


@dataclass(frozen=True, slots=True)
class Compared:
    """A policy's mean session return over hand_set's, with a 95 % interval over sessions paired by their random numbers."""

    hand_set: float
    policy: float
    low: float
    high: float

    def __str__(self) -> str:
        diff = self.policy - self.hand_set
        return f"{self.policy:.2f} a session against {self.hand_set:.2f}: {diff:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


class PolicyWorld:
    """A world in which a policy sets the weights of some tasks' scores by a trained ranker.

    Args:
        hand_set: Factors of the raw scores by task: where exploration starts, and what a page without a state gets.
        tasks: What is weighted; a weight reaches from 0 to one average occurrence.
    """

    def __init__(self, world: World, predictor: Predictor, tasks: Sequence[str], hand_set: Mapping[str, float]) -> None:
        self.world, self.tasks = world, tuple(tasks)
        at = np.array([world.tasks.names.index(task) for task in tasks])

        def fuse(weights: Floats32, scores: Floats32) -> Floats32:
            final: Floats32 = np.einsum("bp,bnp->bn", weights, scores[..., at])
            return final

        top = np.maximum(world.unit[at], [hand_set.get(task, 0.0) for task in tasks]).astype(np.float32)
        self.env = SessionEnv(
            world, 128, ranker=WorldRanker(predictor, world), fuse=fuse, low=np.zeros(len(at), np.float32), high=top
        )
        self.hand_set = np.array([hand_set.get(task, 0.0) for task in tasks], np.float32)
        self.state, self.columns = state_of(world, tasks)

    @property
    def baseline(self) -> Floats32:
        """The hand-set weights as an action."""
        return self.env.actions(self.hand_set)

    def explore(self, n_sessions: int, *, seed: int, reward: Reward, progress: bool = False) -> Transitions:
        """Sessions under mixed exploration around the hand-set weights."""
        log = transitions(self.env, mixed_exploration(self.baseline), n_sessions, seed=seed, progress=progress)
        seen = {name: log[name][:, self.columns] for name in ("obs", "next_obs")}
        return Transitions.from_log(
            {**log.columns, **seen},
            obs_names=self.state.names,
            param_names=[f"w_{task}" for task in self.tasks],
            low=self.env.low,
            high=self.env.high,
            reward=reward,
        )

    def acting(self, net: PolicyNet) -> Policy:
        """A net as the simulator's policy."""

        act = Acting(net)
        return deterministic(lambda obs: act(obs[:, self.columns]))

    def compare(self, net: PolicyNet, n_sessions: int, *, seed: int) -> Compared:
        """Judge a net against the hand-set weights on the same sessions."""
        hand = judge(self.env, constant(self.baseline), n_sessions=n_sessions, seed=seed).session_return
        policy = judge(self.env, self.acting(net), n_sessions=n_sessions, seed=seed).session_return
        diff = policy - hand
        half = 1.96 * float(diff.std()) / n_sessions**0.5
        return Compared(float(hand.mean()), float(policy.mean()), float(diff.mean()) - half, float(diff.mean()) + half)

    def strategy(self, net: PolicyNet, exploration: Exploration | None = None) -> PolicyStrategy:
        """A net as a strategy of the service."""
        bounds = zip(self.env.low.tolist(), self.env.high.tolist(), strict=True)
        ranges = {f"w_{task}": bound for task, bound in zip(self.tasks, bounds, strict=True)}
        fallback = {f"w_{task}": float(w) for task, w in zip(self.tasks, self.hand_set, strict=True)}
        formula = weighted_sum_of(dict.fromkeys(self.tasks, 1.0))
        return PolicyStrategy(formula, ranges, self.state, net, fallback, exploration)


def learn(folder: str | Path, *, n_updates: int, seed: int, settings: Mapping[str, Any] = SETTINGS) -> PolicyNet:
    """Train on the transitions in a folder, in a process of its own: the learner brings ray along, which the service must
    import first."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        config, state = pool.submit(_train, str(folder), n_updates, seed, dict(settings)).result()
    net = build(config)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return net.eval().requires_grad_(False)


def _train(folder: str, n_updates: int, seed: int, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    from fusion.policy.learner.trainer import train

    torch.set_num_threads(1)
    trained = train(Transitions.load(folder), ALGORITHM, settings=settings, n_updates=n_updates, seed=seed)
    return trained.net.to_config(), {name: value.numpy() for name, value in trained.net.state_dict().items()}
