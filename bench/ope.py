"""Off-policy estimates against the simulator's truth: does the estimator named beforehand rank policies, and hold its intervals?

Named beforehand: `fqe`, fitted Q on the slate's features (`fusion.ope.features.SlateFeatures`). Features, ridge and the width of
its intervals were chosen on worlds 100 to 103; judged once on world 42 with three logs of 20,000 sessions. (Worlds 31 and 41 were
judged before, with other features and another ridge, and are seen.)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from bench.harness import Bench, Cell, data_folder
from bench.ope_policies import bad_policies, policies
from core.arrays import AnyArray, Bools, Floats, average_ranks
from fusion.ope import BANDIT, ESTIMATORS, Decisions, Episodes, Estimate, Evaluator, Settings, SlateFeatures, Target
from fusion.ope.network import NetworkSettings
from fusion.policy.exploration import Exploration, Gaussian, mixed
from fusion.policy.transitions import Transitions
from simulator.env import SessionEnv
from simulator.judge import judge
from simulator.policies import mixed_exploration
from simulator.rollout import transitions
from simulator.world import World

NAMED = "fqe"
OF_SESSIONS = [name for name in ESTIMATORS if name not in BANDIT]
NOISE = 0.1  # the declared noise of every policy judged
NEAR = 0.15  # of the hand-set return
COSTLY = ("fqe_network", "slate_ordered", "slate_set", "slate_rips", "session_dr")  # shown for every fifth policy


class Judged(NamedTuple):
    """Truth of every policy: mean return `[P]`, its standard error, and which are within 15 % of hand-set."""

    names: list[str]
    truth: Floats
    error: Floats
    near: Bools


@dataclass(frozen=True)
class Score:
    """How an estimator did on some policies of one log."""

    spearman: float
    covered: float
    regret: float
    error: float
    bias: float


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Run the benchmark."""
    bench = Bench(
        "ope",
        ["spearman", "spearman_low", "coverage", "regret_at_1", "golden_max_error"],
        argv=argv,
        arguments=_arguments,
    )
    n_policies, n_sessions, n_judged = (15, 4000, 4000) if bench.quick else (28, 20_000, 60_000)
    logs = bench.args.logs[:1] if bench.quick else bench.args.logs
    env = SessionEnv(World.make("default", seed=bench.args.world), 256)
    hand = env.actions(env.world.hand_set())
    means = {**policies(env, n_policies, bench.args.world), "hand_set": lambda obs: np.broadcast_to(hand, (len(obs), len(hand)))}
    means |= bad_policies(env)
    targets = [Target(name, mean, Exploration({"own": (1.0, Gaussian(NOISE))})) for name, mean in means.items()]
    work = Path(bench.args.work) / ("quick" if bench.quick else "full") if bench.args.work else None
    asked = {seed: Asked(env, n_sessions, seed, work) for seed in logs}
    if bench.args.part in ("all", "truth"):
        judged = _judge(env, targets, n_judged, 9_000_000 + bench.args.world, work)
    if bench.args.part in ("all", "logs"):
        for log in asked.values():
            log.everything(targets, [NAMED])
        asked[logs[0]].everything(targets, OF_SESSIONS)
    if bench.args.part != "all":
        return bench.finish()
    near = int(judged.near.sum())
    bench.say(f"world {bench.args.world}: {near} of {len(targets)} policies within {NEAR:.0%} of hand_set's return")
    found = {seed: [log.ask(NAMED, target) for target in targets] for seed, log in asked.items()}
    for seed, estimates in found.items():
        title = f"{NAMED} on log {seed}: {n_sessions:,} sessions"
        _policy_table(bench, asked[seed].logged, estimates, judged, title)
    _others(bench, asked[logs[0]], targets, judged)
    scores = [_score(estimates, judged) for estimates in found.values()]
    values = np.array([[estimate.value for estimate in estimates] for estimates in found.values()])
    inside = judged.near & np.isfinite(values).all(0)  # the log carries an estimate: inside its support
    covered = [_covered(estimates, judged.truth)[inside] for estimates in found.values()]
    bench.figure("spearman", float(np.mean([score.spearman for score in scores])))
    bench.figure("spearman_low", _spearman_low(judged.truth[inside], values[:, inside]))
    bench.figure("coverage", float(np.mean(covered)))
    bench.figure("regret_at_1", float(np.mean([score.regret for score in scores])))
    bench.figure("n_policies", int(inside.sum()))
    bench.figure("n_refused", near - int(inside.sum()))
    bench.figure("truth_error", float(judged.error[judged.near].mean()))
    error = _golden()
    bench.figure("golden_max_error", error)
    if error is None:
        bench.note("golden_max_error", "golden/obp_ref.npz is not there; see SCOREFUSION_DATA")
    bench.note("spearman", f"mean over logs {', '.join(map(str, logs))} of world {bench.args.world}; coverage over all of them")
    return bench.finish()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--world", type=int, default=42, help="the world's seed; 42 is the judged one (default: %(default)s)")
    parser.add_argument("--logs", type=int, nargs="+", default=[44, 45, 46], help="seeds of the logs (default: %(default)s)")
    parser.add_argument("--work", metavar="DIR", help="keeps what is done, so that a killed run goes on")
    parser.add_argument("--part", choices=["all", "truth", "logs"], default="all", help="do this part alone, into --work")


def _kept(work: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, from `work` if it was made before; JSON values."""
    if work is None:
        return make()
    path = work / f"{name.replace(' ', '_')}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(make()))
        part.replace(path)
    return json.loads(path.read_text())


def _judge(env: SessionEnv, targets: list[Target], n_sessions: int, seed: int, work: Path | None) -> Judged:
    """Run every policy in the simulator, on the same sessions: an error of the truth moves all policies alike, and must be small
    beside that of an estimate."""

    def play(target: Target) -> Callable[[], list[float]]:
        def run() -> list[float]:
            policy = mixed_exploration(target.mean, noise=NOISE, share=0.0)
            returns = judge(env, policy, n_sessions=n_sessions, seed=seed).session_return
            return [float(returns.mean()), float(returns.std() / np.sqrt(n_sessions))]

        return run

    progress = tqdm(targets, desc="truth", unit="policy")
    found = np.array([_kept(work, f"truth-{seed}-{n_sessions}-{target.name}", play(target)) for target in progress])
    truth, error = found.T
    names = [target.name for target in targets]
    near = np.abs(truth / truth[names.index("hand_set")] - 1) <= NEAR
    near &= np.array([not name.startswith("only ") for name in names])
    return Judged(names, truth, error, near)


class Asked:
    """One log and what estimators answered on it; the log is written only when something is asked that is not kept."""

    def __init__(self, env: SessionEnv, n_sessions: int, seed: int, work: Path | None) -> None:
        self.env, self.n_sessions, self.seed, self.work = env, n_sessions, seed, work
        self._answers: dict[tuple[str, str], Estimate] = {}

    @cached_property
    def evaluator(self) -> Evaluator:
        """The log, written now."""
        return _log(self.env, self.n_sessions, self.seed)

    def ask(self, estimator: str, target: Target) -> Estimate:
        """One estimate."""
        key = estimator, target.name
        if key not in self._answers:
            self._answers[key] = self._keep(f"{estimator}-{target.name}", lambda: self.evaluator.estimate(estimator, target))
        return self._answers[key]

    @property
    def logged(self) -> Estimate:
        """What the logging policy got."""
        return self._keep("logged", lambda: self.evaluator.logged)

    def everything(self, targets: list[Target], estimators: list[str]) -> None:
        """Ask estimators of every policy, the costly ones of every fifth."""
        progress = tqdm(targets, desc=f"log {self.seed}", unit="policy")
        for number, target in enumerate(progress):
            for name in estimators:
                if name not in COSTLY or number % 5 == 0:
                    self.ask(name, target)
        assert self.logged.status == "ok"
        self.__dict__.pop("evaluator", None)  # a log is large

    def _keep(self, name: str, make: Callable[[], Estimate]) -> Estimate:
        values = _kept(self.work, f"{self.env.world.seed}-{self.seed}-{name}", lambda: make().to_json())
        known: dict[str, Any] = {key: nan if value is None else value for key, value in values.items()}
        return Estimate(**known)


def _log(env: SessionEnv, n_sessions: int, seed: int) -> Evaluator:
    """A log of mixed exploration around hand-set weights, ready to be asked."""
    hand = env.actions(env.world.hand_set())
    log = transitions(env, mixed_exploration(hand), n_sessions, seed=seed, candidates=True)
    tasks = env.world.tasks.names
    table = Transitions.from_log(
        log.columns, obs_names=env.observer.names, param_names=tasks, low=env.low, high=env.high, task_names=tasks
    )
    gates = [i for i, name in enumerate(env.observer.names) if name.startswith("cohort_")]

    def fuse(action: AnyArray, scores: AnyArray) -> AnyArray:
        weights = env.weights(action) * env.world.unit
        final: AnyArray = (scores @ weights[:, :, None])[:, :, 0]
        return final

    def reference(obs: AnyArray) -> AnyArray:
        return np.broadcast_to(hand, (len(obs), len(hand)))

    return Evaluator(
        Episodes.from_table(table),
        features=SlateFeatures(fuse, env.world.settings.page_size, env.world.unit, gates, reference),
        logging=Target("mixed", reference, mixed(near=0.1, wide=1.0, wide_share=0.5)),
        fuse=fuse,
        page_size=env.world.settings.page_size,
        settings=Settings(
            network=NetworkSettings(rounds=20, updates=40), network_seeds=(0, 1), slate_sessions=500, slate_draws=16
        ),
    )


def _score(found: list[Estimate], judged: Judged) -> Score:
    """Over the near policies that got a value."""
    value = np.array([estimate.value for estimate in found])
    use = judged.near & np.isfinite(value)
    if use.sum() < 3:
        return Score(*[float("nan")] * 5)
    truth, guess = judged.truth[use], value[use]
    regret = float((truth.max() - truth[guess.argmax()]) / np.ptp(truth))
    gap = guess - truth
    return Score(
        spearman(truth, guess),
        float(_covered(found, judged.truth)[use].mean()),
        regret,
        float(np.abs(gap).mean()),
        float(gap.mean()),
    )


def _covered(found: list[Estimate], truth: Floats) -> Bools:
    low, high = np.array([e.low for e in found]), np.array([e.high for e in found])
    return (low <= truth) & (truth <= high)


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0]))
    1.0
    """
    return float(np.corrcoef(average_ranks(a), average_ranks(b))[0, 1])


def _spearman_low(truth: Floats, guesses: Floats, n_redraws: int = 2000) -> float:
    """Lower end of the 95 % bootstrap interval over policies of the logs' mean correlation; guesses `[L, P]`."""
    rng = np.random.default_rng(0)
    drawn = np.empty(n_redraws)
    for i in range(n_redraws):
        rows = rng.integers(0, len(truth), len(truth))
        drawn[i] = np.mean([spearman(truth[rows], guess[rows]) for guess in guesses])
    return float(np.quantile(drawn, 0.025))


def _policy_table(bench: Bench, logged: Estimate, found: list[Estimate], judged: Judged, title: str) -> None:
    order = sorted(range(len(found)), key=lambda i: (not judged.near[i], -judged.truth[i]))
    rows: list[list[Cell]] = [
        [
            judged.names[i],
            "near" if judged.near[i] else "apart",
            judged.truth[i],
            found[i].value,
            found[i].low,
            found[i].high,
            found[i].effective,
            found[i].reach,
            found[i].status,
        ]
        for i in order
    ]
    rows.append(["logging policy", "logged", None, logged.value, logged.low, logged.high, logged.effective, None, logged.status])
    bench.table(["policy", "where", "truth", "estimate", "low", "high", "effective", "reach", "status"], rows, title=title)


def _others(bench: Bench, log: Asked, targets: list[Target], judged: Judged) -> None:
    """All estimators beside the named one, on the first log."""
    rows: list[list[Cell]] = []
    for name in OF_SESSIONS:
        chosen = range(0, len(targets), 5) if name in COSTLY else range(len(targets))
        found = [
            log.ask(name, target) if i in chosen else Estimate.empty(target.name, name, "ok", note="not asked")
            for i, target in enumerate(targets)
        ]
        asked = [found[i] for i in chosen if judged.near[i]]
        score = _score(found, judged)
        statuses = sorted({estimate.status for estimate in asked} - {"ok"})
        n_ok = sum(estimate.status == "ok" for estimate in asked)
        effective = float(np.median([estimate.effective for estimate in asked]))
        rows.append(
            [
                *(name, f"{n_ok} of {len(asked)}", score.spearman, score.covered, score.regret, score.error, score.bias),
                *(effective, ", ".join(statuses) or "-"),
            ]
        )
    headers = ["estimator", "answered", "spearman", "covered", "regret", "abs error", "bias", "effective", "other statuses"]
    bench.table(headers, rows, title="all estimators, policies near hand_set, first log")


def _golden() -> float | None:
    """The largest difference from the golden file's estimates."""
    folder = data_folder("golden")
    if folder is None or not (folder / "obp_ref.npz").is_file():
        return None
    with np.load(folder / "obp_ref.npz") as golden:
        data = {name: golden[name] for name in golden.files}
    rows = np.arange(len(data["reward"]))
    decisions = Decisions(
        data["reward"],
        data["pscore"],
        data["pi"][rows, data["action"]],
        data["q"][rows, data["action"]],
        (data["pi"] * data["q"]).sum(1),
    )
    ours = [estimator(decisions).value for estimator in BANDIT.values()]
    return float(np.abs(np.array(ours) - data["values"]).max())


if __name__ == "__main__":
    main()
