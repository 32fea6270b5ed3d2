"""The pieces of the policy bench that are kept as files: policies and their judged sessions, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from core.arrays import Floats
from fusion.policy.learner.least_squares import least_squares
from fusion.policy.learner.trainer import train
from fusion.policy.networks import PolicyNet, build
from fusion.policy.transitions import Transitions
from simulator.judge import Judged, judge
from simulator.oracle import oracle_weights
from simulator.policies import deterministic
from simulator.rollout import transitions
from simulator.world import World
from workflow.policy_world import GATE, Acting, Ground

_NO_EFFECT = ("updates", "paper_updates", "study_updates", "study_sessions", "n_table")  # of a plan on a kept file's name


@dataclass(frozen=True)
class Plan:
    """Everything that decides a figure; part of every kept file's name.

    Args:
        log_sessions: Sessions of a log, and of a search that plays.
        exploration: How logs explore around hand-set weights; see `Ground.log`.
        updates, paper_updates, study_updates: Gradient steps of a learner in our form, in the papers', and in the studies, which
            train many times over, on logs of study_sessions.
        judge_sessions: Sessions a judging seed. valid_seeds choose, test_seeds are read once; train_seeds are the fresh logs and
            searches behind the figures, each read by one test seed. Logs 31 to 36 and seeds 211 to 216 were read before
            `least_squares` looked at lists. n_table: So many test seeds judge everybody. pair_seeds: Logs of the study of mixed
            exploration, each judged on the seed 500 above it: forty, planned from the spread of twelve others (61 to 72).
    """

    log_sessions: int = 30_000
    exploration: str = "random"
    updates: int = 3000
    paper_updates: int = 3000
    study_updates: int = 600
    study_sessions: int = 10_000
    judge_sessions: int = 2000
    valid_seeds: tuple[int, ...] = (901, 902, 903)
    test_seeds: tuple[int, ...] = (411, 412, 413, 414, 415, 416)
    train_seeds: tuple[int, ...] = (51, 52, 53, 54, 55, 56)
    pair_seeds: tuple[int, ...] = tuple(range(101, 141))
    n_table: int = 5
    world_seed: int = 7
    overrides: tuple[tuple[str, int], ...] = ()

    def study(self, seeds: tuple[int, ...]) -> str:
        """What a study trains on, in words."""
        return f"{len(seeds)} logs of {self.study_sessions:,} sessions each, {self.study_updates:,} updates"

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Each fresh log with the judging seed that is read for it."""
        return list(zip(self.train_seeds, self.test_seeds, strict=True))


@dataclass(frozen=True)
class Made:
    """A policy, how it was made, and its updates a second (NaN for searches)."""

    net: PolicyNet
    status: str
    updates_per_s: float


class Workbench:
    """One world of the bench, with its kept files in `work`."""

    def __init__(self, preset: str, plan: Plan, work: Path) -> None:
        self.preset, self.plan, self.work = preset, plan, work
        self.ground = Ground.of(World.make(preset, seed=plan.world_seed, **dict(plan.overrides)))
        self._log: tuple[tuple[Any, ...], Transitions] | None = None

    def log(self, seed: int, **options: Any) -> Transitions:
        """A log; the newest is held in memory."""
        options = {"exploration": self.plan.exploration, "candidates": True, **options}
        key = (seed, tuple(sorted((name, str(value)) for name, value in options.items())))
        if self._log is None or self._log[0] != key:
            self._log = (key, self.ground.log(options.pop("n", self.plan.log_sessions), seed=100 + seed, **options))
        return self._log[1]

    def learned(
        self,
        name: str,
        algorithm: str,
        settings: Mapping[str, Any],
        seed: int,
        log: Callable[[], Transitions] | None = None,
        n_updates: int | None = None,
    ) -> Made:
        """A policy of a learner, from the log of this seed or another."""
        known = dict(settings)
        if known.get("critic", "mlp") != "mlp":
            known["gate"] = list(GATE)
        n = n_updates or (self.plan.paper_updates if name.endswith("(paper)") else self.plan.updates)

        def make() -> Made:
            rows = (log or (lambda: self.log(seed)))()
            if algorithm == "least_squares":
                gate = [i for i, column in enumerate(rows.obs_names) if column.startswith(GATE)]
                terms = self.ground.terms if known.get("lists") else None
                return Made(least_squares(rows, gate=gate, terms=terms), "ok", float("nan"))
            trained = train(rows, algorithm, settings=known, n_updates=n, seed=seed, progress=False)
            return Made(trained.net, trained.status, trained.updates_per_s)

        return self._kept(f"{name}-{seed}", [algorithm, known, n], make)

    def searched(self, name: str, search: Callable[..., PolicyNet], seed: int) -> Made:
        """A policy of a search that plays as many sessions as a log holds."""

        def make() -> Made:
            play = self.ground.play(500 + seed)
            return Made(search(play, self.ground.start(), self.plan.log_sessions, seed), "ok", float("nan"))

        return self._kept(f"{name}-{seed}", ["searched"], make)

    def judged(self, name: str, made: Made | None, seed: int) -> Judged:
        """The sessions of a judging seed; None is the oracle in weight space."""
        path = self.work / f"{self._key(f'judged-{name}-on-{seed}', [_digest(made)])}.npy"
        if not path.is_file():
            n_sessions, number = self.plan.judge_sessions, 10_000 + seed
            if made is None:
                hand = self.judged("hand_set", self.hand_set(), seed)
                rho = float(hand.session_return.sum() / hand.pages.sum())
                found = judge(self.ground.env, oracle_weights(self.ground.env, rho=rho), n_sessions=n_sessions, seed=number)
            else:
                found = self.ground.judge(made.net, n_sessions=n_sessions, seed=number)
            rows = np.stack([found.session_return, found.pages, found.clicks, found.days_away])
            _write(path, lambda target: np.save(target, rows))
        return Judged(*np.load(path))

    def hand_set(self) -> Made:
        """The preset's own weights."""
        return Made(self.ground.start().net(self.ground.hand_set.astype(float)), "ok", float("nan"))

    def returns(self, name: str, made: Made | None, seeds: tuple[int, ...]) -> Floats:
        """Mean return of each judging seed, `[len(seeds)]`."""
        return np.array([self.judged(name, made, seed).session_return.mean() for seed in seeds])

    def discounted(self, net: PolicyNet, seed: int, gamma: float) -> float:
        """Mean discounted return of a judging seed's sessions."""
        policy = deterministic(Acting(net))
        log = transitions(self.ground.env, policy, self.plan.judge_sessions, seed=10_000 + seed)
        first = int(log["step"].min())
        return float((log["reward"] * gamma ** (log["step"] - first)).sum() / self.plan.judge_sessions)

    def _kept(self, name: str, settings: list[Any], make: Callable[[], Made]) -> Made:
        path = self.work / f"{self._key(name, settings)}.pt"
        if not path.is_file():
            made = make()
            state: dict[str, Any] = {"config": json.dumps(made.net.to_config()), "state": made.net.state_dict()}
            state |= {"status": made.status, "updates_per_s": made.updates_per_s}
            _write(path, lambda target: torch.save(state, target))
        kept = torch.load(path, weights_only=True)
        net = build(json.loads(kept["config"]))
        net.load_state_dict(kept["state"])
        return Made(net.eval().requires_grad_(False), kept["status"], kept["updates_per_s"])

    def _key(self, name: str, settings: list[Any]) -> str:
        plan = {key: value for key, value in asdict(self.plan).items() if not key.endswith("_seeds")}
        if settings == ["searched"] or name.startswith("judged"):
            plan |= {"exploration": ""}  # how logs explore touches neither
        for name_of in _NO_EFFECT:
            del plan[name_of]
        about = json.dumps([self.preset, plan, settings], sort_keys=True, default=str)
        return f"{self.preset}-{name}-{hashlib.sha256(about.encode()).hexdigest()[:10]}"


def over_seeds(values: Floats) -> tuple[float, float, float]:
    """Mean and 95 % t interval over seeds.

    >>> [round(x, 3) for x in over_seeds(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def _digest(made: Made | None) -> str:
    state = made.net.state_dict() if made is not None else {}
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in state.values())).hexdigest()


def _write(path: Path, save: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    save(partial)
    partial.replace(path)
