"""The simulator: speed beside RecSim, memory over ten million steps, calibration on days it has not seen, orderings."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np

from bench.harness import Bench, data_folder, interleave, peer_python, ratio
from bench.peers.protocol import Worker, WorkerError
from core.arrays import Floats32
from simulator import SessionEnv, World
from simulator.calibration import LogModel, compare, read_log, sample
from simulator.calibration.source import days_of, with_scenarios
from simulator.calibration.verdict import KS_HIGH, worst
from simulator.judge import Judged, interval, judge, ratio_interval
from simulator.oracle import best_constant, oracle_items, oracle_weights
from simulator.policies import constant
from simulator.settings import PRESETS

FIGURES = ("user_steps_per_s", "ratio_to_recsim", "rss_growth_mb", "calibration_max_rel_error", "classifier_auc")
N_CANDIDATES, PAGE, BATCH, N_PROCESSES = 50, 6, 256, 2
FIT_DAYS = 8  # 04-25 .. 05-02; 05-03 .. 05-06 judge


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench."""
    bench = Bench("simulator", FIGURES, argv=argv)
    speed(bench)
    memory(bench)
    calibration(bench)
    orderings(bench)
    bench.finish()


def speed(bench: Bench) -> None:
    """Two processes each, ours and RecSim's, in turn."""
    n_ours, n_peer = (60_000, 1_500) if bench.quick else (400_000, 10_000)
    with ExitStack() as stack:
        ours = [stack.enter_context(Worker(sys.executable, "bench.simulator_worker", threads=1)) for _ in range(N_PROCESSES)]
        for seed, worker in enumerate(ours):
            worker.call("build", preset="default", n_candidates=N_CANDIDATES, batch=BATCH, seed=seed)
        contestants: dict[str, Callable[[], float]] = {"ours": lambda: _rate(ours, n_ours)}
        python = peer_python("recsim") if bench.peers else None
        if python is None:
            bench.note("ratio_to_recsim", "null: run `make peers` once, then this bench with --peers")
        else:
            peers = [stack.enter_context(Worker(python, "bench.peers.recsim_worker", threads=1)) for _ in range(N_PROCESSES)]
            for seed, worker in enumerate(peers):
                worker.call("build", n_candidates=N_CANDIDATES, page_size=PAGE, seed=seed)
            contestants["recsim"] = lambda: _rate(peers, n_peer)
            kept = [stack.enter_context(Worker(python, "bench.peers.recsim_worker", threads=1)) for _ in range(N_PROCESSES)]
            for seed, worker in enumerate(kept):
                worker.call("build", n_candidates=N_CANDIDATES, page_size=PAGE, seed=seed, resample_documents=False)
            contestants["recsim, same documents"] = lambda: _rate(kept, n_peer)
        try:
            samples = interleave(contestants, rounds=5)
        except WorkerError as error:
            bench.note("user_steps_per_s", str(error))
            return
    rows: list[list[str | int | float | None]] = [[name, s.median, s.low, s.high] for name, s in samples.items()]
    title = f"user-steps per second: {N_PROCESSES} processes, {N_CANDIDATES} candidates, page {PAGE}"
    bench.table(["simulator", "median", "low", "high"], rows, title=title)
    bench.figure("user_steps_per_s", samples["ours"].median)
    if "recsim" in samples:
        fastest = max((samples["recsim"], samples["recsim, same documents"]), key=lambda s: s.median)
        bench.figure("ratio_to_recsim", ratio(samples["ours"], fastest))
        bench.note(
            "ratio_to_recsim",
            "over the faster of RecSim's two settings; RecSim has one behaviour and no ranker, ours nine and one",
        )


def memory(bench: Bench) -> None:
    """Resident memory after a warm-up and after many more steps of the same process."""
    n = 600_000 if bench.quick else 10_000_000
    with Worker(sys.executable, "bench.simulator_worker", threads=1) as worker:
        worker.call("build", preset="default", n_candidates=N_CANDIDATES, batch=BATCH)
        before = worker.call("steps", n=100_000)
        after = worker.call("steps", n=n)
    rows = [["after 100,000 steps", before["rss_mb"]], [f"after {n:,} more", after["rss_mb"]]]
    bench.table(["memory", "resident MiB"], rows, title="memory of one process")
    bench.figure("rss_growth_mb", after["rss_mb"] - before["rss_mb"])


def calibration(bench: Bench) -> None:
    """The stored model of KuaiRand's log, fitted on the first days, beside the days after."""
    folder = data_folder("kuairand_pure")
    if folder is None:
        bench.note("classifier_auc", "null: no kuairand_pure below SCOREFUSION_DATA")
        return
    model = LogModel.load(PRESETS / "kuairand.log.json")
    log = read_log(folder / "log_standard_0425_0506.parquet")
    day = days_of(log) - days_of(log).min()
    judged = with_scenarios(log.take(day >= FIT_DAYS), model.scenarios)
    simulated = sample(model, seed=1, n_days=int(day.max()) + 1 - FIT_DAYS, first_day=FIT_DAYS, scale=3.0)
    checks = compare(judged, simulated, model.heads)
    rows = [[c.kind, c.name, c.logged, c.simulated, c.distance, c.errors, "ok" if c.passed else "off"] for c in checks]
    bench.table(
        ["check", "of", "logged", "simulated", "distance", "std errors", "verdict"], rows, title="calibration, judged days"
    )
    bench.figure("calibration_max_rel_error", worst(checks))
    bench.note(
        "calibration_max_rel_error", "the largest relative error of a rate that is not within 2 standard errors; 0: all are"
    )
    bench.figure("classifier_auc", checks[-1].simulated)
    bench.figure("calibration_checks_off", sum(not check.passed for check in checks))
    bench.figure("calibration_ks_max", max(c.distance for c in checks if c.kind == "rate distribution"))
    bench.note("calibration_ks_max", f"goal {KS_HIGH}: distributions of per-user and per-item rates")


def orderings(bench: Bench, presets: Sequence[str] | None = None) -> None:
    """What each preset promises, on sessions that chose nothing; one table a preset."""
    n, rounds, size = (1_000, 3, 12) if bench.quick else (10_000, 8, 24)
    for preset in presets or (QUICK if bench.quick else tuple(PROMISES)):
        start = time.perf_counter()
        env = SessionEnv(World.make(preset, seed=0), 512)
        tuned = best_constant(env, n_sessions=n // 3, seed=50, rounds=rounds, size=size)
        hand = _run(env, env.actions(_scaled(env.world.hand_set())), n)
        rho = float(hand.session_return.sum() / hand.pages.sum())
        found = {"hand_set": hand, "best constants": _run(env, tuned, n)}
        found |= {f"{task} only": _run(env, _only(env, task), n) for task in PROMISES[preset]}
        if preset == "scarce_feedback":
            weights = env.weights(tuned[None])[0].copy()
            weights[env.world.tasks.names.index("purchase")] = 0
            found["best constants, purchase 0"] = _run(env, env.actions(weights), n)
        found["oracle weights"] = judge(env, oracle_weights(env, rho=rho), n_sessions=n, seed=1)
        found["oracle items"] = judge(env, rank=oracle_items(rho=rho), n_sessions=n, seed=1)
        best, rows = found["best constants"].session_return, []
        for name, judged in found.items():
            over, clicks = ratio_interval(judged.session_return, best), ratio_interval(judged.clicks, judged.pages)
            rows.append(
                [
                    name,
                    *map(
                        str, (interval(judged.session_return), over, interval(judged.pages), clicks, interval(judged.days_away))
                    ),
                ]
            )
        headers = ["policy", "return", "over best constants", "pages", "clicks a page", "days away"]
        title = f"{preset}: {n:,} paired sessions, 95 % intervals ({time.perf_counter() - start:.0f} s)"
        bench.table(headers, rows, title=title)
        headroom = ratio_interval(found["oracle weights"].session_return, best)
        bench.figure(f"{preset}_headroom", headroom.mean - 1)
        bench.figure(f"{preset}_headroom_low", headroom.low - 1)


QUICK = ("default", "clickbait")
PROMISES = {
    "default": ("click",),
    "clickbait": ("click",),
    "duration_bias": ("watch_s", "complete"),
    "scarce_feedback": ("click", "purchase"),
    "cold_start": ("click",),
    "drift": ("click",),
    "two_scenarios": ("click",),
}


def _rate(workers: Sequence[Worker], n: int) -> float:
    """User-steps per second of all workers together, by the slowest."""
    with ThreadPoolExecutor(len(workers)) as pool:
        start = time.perf_counter()
        list(pool.map(lambda worker: worker.call("steps", n=n), workers))
        return len(workers) * n / (time.perf_counter() - start)


def _run(env: SessionEnv, action: Floats32, n: int) -> Judged:
    return judge(env, constant(action), n_sessions=n, seed=1)


def _only(env: SessionEnv, task: str) -> Floats32:
    return env.actions(np.eye(env.n_params, dtype=np.float32)[env.world.tasks.names.index(task)])


def _scaled(weights: Floats32) -> Floats32:
    return weights / np.float32(np.abs(weights).max())


if __name__ == "__main__":
    main()
