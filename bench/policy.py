"""Policies: every learner and every search on equal sessions, from hand-set weights to the oracle, in two simulated worlds.

Fair play: a learner's log and a search's play hold the same number of sessions of the same world. Each kind's best is chosen on
validation seeds, made again from fresh logs (fresh play) and judged on fresh seeds, once. `NAME (paper)` keeps the papers' form,
critics that are plain MLPs of state and action; the others are our form, see docs/policy.md. `least_squares` also reads the
candidates' scores of the log, `least_squares (direction)` does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from bench.harness import Bench, Cell, interleave, peer_python, ratio
from bench.peers.protocol import Worker, WorkerError
from bench.policy_runs import Made, Plan, Workbench, over_seeds
from bench.policy_studies import data, promises, rewards
from fusion.policy.learner.base import FusionLearner
from fusion.policy.learner.loop import Loop
from fusion.policy.learner.non_rl import SEARCHES
from fusion.policy.learner.recipes import OURS
from fusion.policy.learner.trainer import configure
from simulator.oracle import share_of_gap

WORLDS = ("default", "clickbait")
PARTS = (*WORLDS, "data", "rewards", "promises", "speed")
FIGURES = (
    *(f"{world}_{figure}" for world in WORLDS for figure in ("rl_gain_low", "oracle_share")),
    "batchrl_mtf_updates_vs_d3rlpy",
    "mixed_over_random_low",
)
PAPER: Mapping[str, Mapping[str, Any]] = {
    name: {"hidden": [64, 64]} for name in ("td3", "td3_bc", "cql_sac", "iql", "batchrl_mtf", "unified_rl")
}
QUICK = Plan(
    log_sessions=1200,
    updates=60,
    paper_updates=60,
    study_updates=60,
    study_sessions=400,
    judge_sessions=120,
    valid_seeds=(901,),
    test_seeds=(11, 12),
    train_seeds=(1, 2),
    pair_seeds=(1, 2),
    overrides=(("n_users", 2000), ("n_items", 2000), ("n_candidates", 40)),
)
SPEED = {"hidden": [256, 256], "batch_size": 256, "n_samples": 10, "rho": 0.15}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    bench = Bench("policy", FIGURES, argv=argv, arguments=_arguments)
    torch.set_num_threads(1)
    plan = QUICK if bench.quick else Plan()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(bench.args.work or folder)
        parts = bench.args.parts.split(",") if bench.args.parts else list(PARTS)
        for preset in (world for world in WORLDS if world in parts):
            world(bench, Workbench(preset, plan, work))
        default = Workbench(WORLDS[0], plan, work)
        if "data" in parts:
            data(bench, default)
        if "rewards" in parts:
            rewards(bench, default)
        if "promises" in parts:
            promises(bench, default, PAPER)
        if "speed" in parts:
            speed(bench, Workbench("default", replace(plan, log_sessions=min(3000, plan.log_sessions)), work))
    bench.finish(partial=len(parts) < len(PARTS))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", metavar="DIR", help="keep policies and judged sessions here; a killed run goes on")
    parser.add_argument("--learners", metavar="A,B", help="only some of the learners; the record says so")
    parser.add_argument("--parts", metavar="A,B", help=f"only some of {', '.join(PARTS)}; the record keeps the others")


def world(bench: Bench, bed: Workbench) -> None:
    """All policies of one world; the two figures."""
    plan, field = bed.plan, dict[str, Made]()
    forms: dict[str, tuple[str, Mapping[str, Any]]] = {
        "least_squares": ("least_squares", {"lists": True}),
        "least_squares (direction)": ("least_squares", {}),
    }
    forms |= {name: (name, settings) for name, settings in OURS.items()}
    if bed.preset == WORLDS[0]:
        forms |= {f"{name} (paper)": (name, settings) for name, settings in PAPER.items()}
    if bench.args.learners:
        forms = {name: form for name, form in forms.items() if name in bench.args.learners.split(",")}
        bench.note(f"{bed.preset} learners", f"this run compares {', '.join(forms)} only")
    for number, (name, (algorithm, settings)) in enumerate(forms.items(), 1):
        bench.say(f"[{bed.preset}] {number}/{len(forms)} {name}")
        field[name] = bed.learned(name, algorithm, settings, 0)
    for name, search in SEARCHES.items():
        bench.say(f"[{bed.preset}] {name}")
        field[name] = bed.searched(name, search, 0)
    chosen_rl = best(bed, {name: made for name, made in field.items() if name in forms})
    chosen_search = best(bed, {name: made for name, made in field.items() if name in SEARCHES})
    bench.say(f"[{bed.preset}] chosen on validation seeds: {chosen_rl} and {chosen_search}")
    _table(bench, bed, field, forms)

    algorithm, settings = forms[chosen_rl]
    rows = []
    for train_seed, test_seed in plan.pairs:
        rl = bed.learned(chosen_rl, algorithm, settings, train_seed)
        other = bed.searched(chosen_search, SEARCHES[chosen_search], train_seed)
        named = {
            f"{chosen_rl}-{train_seed}": rl,
            f"{chosen_search}-{train_seed}": other,
            "hand_set": bed.hand_set(),
            "oracle": None,
        }
        rows.append([bed.returns(name, made, (test_seed,))[0] for name, made in named.items()])
        bench.say(
            f"[{bed.preset}] fresh log {train_seed}: " + ", ".join(f"{n} {r:.3f}" for n, r in zip(named, rows[-1], strict=True))
        )
    rl_return, other_return, hand, oracle = np.array(rows).T
    gain = over_seeds(rl_return - other_return)
    share = share_of_gap(rl_return.mean(), hand.mean(), oracle.mean())
    margin = over_seeds(((rl_return - hand) - share * (oracle - hand)) / (oracle - hand).mean())
    bench.figure(f"{bed.preset}_rl_gain_low", gain[1])
    bench.figure(f"{bed.preset}_oracle_share", share)
    bench.note(
        f"{bed.preset}_rl_gain_low",
        f"{chosen_rl} over {chosen_search}, {len(rows)} fresh logs and searches, each judged on a fresh seed: "
        f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]",
    )
    bench.note(f"{bed.preset}_oracle_share", f"{chosen_rl}: {share:.3f} [{share + margin[1]:.3f}, {share + margin[2]:.3f}]")


def best(bed: Workbench, field: Mapping[str, Made]) -> str:
    """The name with the largest mean return on the validation seeds."""
    return max(field, key=lambda name: bed.returns(f"{name}-0", field[name], bed.plan.valid_seeds).mean())


def _table(bench: Bench, bed: Workbench, field: Mapping[str, Made], forms: Mapping[str, object]) -> None:
    seeds = bed.plan.test_seeds[: bed.plan.n_table]
    hand, oracle = (bed.returns(name, made, seeds) for name, made in (("hand_set", bed.hand_set()), ("oracle", None)))
    rows: list[list[Cell]] = []
    for name, made in {**field, "oracle_weights": None}.items():
        label = "oracle" if made is None else f"{name}-0"
        judged = [bed.judged(label, made, seed) for seed in seeds]
        returns = np.array([j.session_return.mean() for j in judged])
        left = np.mean([(j.pages < bed.ground.env.world.settings.step_limit).mean() for j in judged])
        pages, away = (float(np.mean([getattr(j, key).mean() for j in judged])) for key in ("pages", "days_away"))
        mean, low, high = over_seeds(returns)
        kind = "oracle" if made is None else "learned" if name in forms else "searched"
        speed = made.updates_per_s if made is not None else float("nan")
        status = made.status if made is not None else "ok"
        share = share_of_gap(mean, float(hand.mean()), float(oracle.mean()))
        rows.append([name, kind, speed, mean, low, high, share, pages, away, float(left), status])
    rows.sort(key=lambda row: -float(str(row[3])))
    headers = ["policy", "kind", "updates/s", "return", "low", "high", "share of gap", "pages", "days away", "left", "status"]
    n = f"{len(seeds)} x {bed.plan.judge_sessions:,}"
    bench.table(headers, rows, title=f"{bed.preset}: one log of {bed.plan.log_sessions:,} sessions, judged on {n} fresh ones")


def speed(bench: Bench, bed: Workbench) -> None:
    """batchrl_mtf beside d3rlpy's BCQ: the same table, networks, batch and sampled actions, one thread, in turn."""
    rows = bed.log(0)
    loop = Loop(cast(FusionLearner, configure(rows, "batchrl_mtf", SPEED, 0).build_learner()), rows)
    n = 5 if bench.quick else 20
    python = peer_python("d3rlpy") if bench.peers else None
    with tempfile.TemporaryDirectory() as folder:
        contestants = {"batchrl_mtf": _timed(loop, n)}
        worker: Worker | None = None
        try:
            if python is None:
                bench.note("batchrl_mtf_updates_vs_d3rlpy", "null: run `make peers` once, then this bench with --peers")
            else:
                worker = peer = Worker(python, "bench.peers.d3rlpy_worker", threads=1)
                columns = {"obs": rows.obs, "action": rows.action, "reward": rows.reward, "terminated": rows.terminated}
                ends = np.r_[rows.session[1:] != rows.session[:-1], True] & ~np.asarray(rows.terminated)
                keywords: dict[str, Any] = {**columns, "timeout": ends}
                np.savez(f"{folder}/rows.npz", **keywords)
                worker.call(
                    "build", data=f"{folder}/rows.npz", threads=1, batch_size=256, n_samples=10, rho=0.15, hidden=[256, 256]
                )
                contestants["d3rlpy BCQ"] = lambda: n / float(peer.call("updates", n=n)["seconds"])
            samples = interleave(contestants, rounds=5)
        except WorkerError as error:
            bench.note("batchrl_mtf_updates_vs_d3rlpy", str(error))
            return
        finally:
            if worker is not None:
                worker.close()
    table: list[list[Cell]] = [[name, sample.median, sample.low, sample.high] for name, sample in samples.items()]
    bench.table(["updates a second", "median", "low", "high"], table, title="batch 256, 256 x 256, 10 sampled actions, 1 thread")
    bench.figure("batchrl_mtf_updates_vs_d3rlpy", ratio(samples["batchrl_mtf"], samples.get("d3rlpy BCQ")))


def _timed(loop: Loop, n: int) -> Any:
    def run() -> float:
        start = time.perf_counter()
        loop.run(n)
        return n / (time.perf_counter() - start)

    return run


if __name__ == "__main__":
    main(sys.argv[1:])
