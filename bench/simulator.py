"""The simulator: speed beside RecSim, memory over ten million steps, calibration on days it has not seen, orderings."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from bench.harness import Bench, Cell, Sample, data_folder, interleave, peer_python, ratio
from bench.peers.protocol import Worker, WorkerError
from bench.simulator_orderings import ONLY, SEEDS, Size, orderings, tuned
from bench.simulator_parts import Part, course, kept
from simulator.calibration import LogModel, compare, read_log, sample, tally
from simulator.calibration.source import days_of, with_scenarios
from simulator.calibration.verdict import KS_HIGH, worst
from simulator.settings import PRESETS

FIGURES = (
    "user_steps_per_s",
    "user_steps_per_core_s",
    "ratio_to_recsim",
    "ratio_to_recsim_kept",
    "rss_growth_mb",
    "calibration_max_rel_error",
    "classifier_auc",
)
N_CANDIDATES, PAGE, BATCH, N_PROCESSES = 50, 6, 256, 2
FIT_DAYS = 8  # 04-25 .. 05-02; 05-03 .. 05-06 judge
PARTS = ("speed", "memory", "calibration", "orderings")
QUICK, FULL = Size(1_000, 3, 12), Size(6_000, 8, 24)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the bench, or read from `--work` the parts that are finished."""
    bench = Bench("simulator", FIGURES, argv=argv, arguments=_arguments)
    work = Path(bench.args.work) / ("quick" if bench.quick else "full") if bench.args.work else None
    parts = bench.args.parts or PARTS
    if "speed" in parts:
        kept(work, "speed-peers" if bench.peers else "speed", lambda: speed(quick=bench.quick, peers=bench.peers)).show(bench)
    if "memory" in parts:
        kept(work, "memory", lambda: memory(quick=bench.quick)).show(bench)
    if "calibration" in parts:
        kept(work, "calibration", calibration).show(bench)
    if "orderings" in parts:
        all_orderings(bench, work)
    left_out = [
        *(part for part in PARTS if part not in parts),
        *(preset for preset in ONLY if bench.figures.get(f"{preset}_headroom") is None),
    ]
    if left_out:
        bench.note("left out", f"{', '.join(left_out)}: not measured in this run, their figures are null")
    bench.finish()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", metavar="DIR", help="keeps finished parts, so that a killed run goes on")
    parser.add_argument("--presets", nargs="+", choices=tuple(ONLY), help="orderings of these alone")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="run these alone; figures of the others stay null")


def speed(*, quick: bool, peers: bool) -> Part:
    """Two processes each, ours and RecSim's, in turn."""
    part = Part()
    n_ours, n_peer = (60_000, 1_500) if quick else (400_000, 10_000)
    with ExitStack() as stack:
        ours = [stack.enter_context(Worker(sys.executable, "bench.simulator_worker", threads=1)) for _ in range(N_PROCESSES)]
        for seed, worker in enumerate(ours):
            worker.call("build", preset="default", n_candidates=N_CANDIDATES, batch=BATCH, seed=seed)
        teams = {OURS: ours}
        python = peer_python("recsim") if peers else None
        if python is None:
            part.notes["ratio_to_recsim"] = "null: run `make peers` once, then this bench with --peers"
        else:
            for name, fresh in ((FRESH, True), (KEPT, False)):
                pair = [stack.enter_context(Worker(python, "bench.peers.recsim_worker", threads=1)) for _ in range(N_PROCESSES)]
                for seed, worker in enumerate(pair):
                    worker.call("build", n_candidates=N_CANDIDATES, page_size=PAGE, seed=seed, resample_documents=fresh)
                teams[name] = pair
        before, busy = os.getloadavg()[0], dict[str, list[float]]()
        contestants = {
            name: partial(_rate, team, n_ours if name == OURS else n_peer, busy.setdefault(name, []))
            for name, team in teams.items()
        }
        try:
            samples = interleave(contestants, rounds=5)
        except WorkerError as error:
            part.notes["user_steps_per_s"] = str(error)
            return part
    cores = {name: Sample(tuple(values[-5:])) for name, values in busy.items()}
    rows: list[list[Cell]] = [[name, s.median, s.low, s.high, cores[name].median] for name, s in samples.items()]
    title = f"user-steps per second: {N_PROCESSES} processes, {N_CANDIDATES} candidates, page {PAGE}"
    part.table(["simulator", "median", "low", "high", "per processor second"], rows, title=title)
    part.figures |= {"user_steps_per_s": samples[OURS].median, "user_steps_per_core_s": cores[OURS].median}
    load = f"load average before the first round {before:.1f}, after the last {os.getloadavg()[0]:.1f}"
    part.notes["user_steps_per_s"] = f"by the clock, both processes together; {load}"
    part.notes["user_steps_per_core_s"] = "of one process by its own processor seconds, which other load moves less"
    if FRESH in samples:
        part.figures["ratio_to_recsim"] = ratio(cores[OURS], cores[FRESH])
        part.figures["ratio_to_recsim_kept"] = ratio(cores[OURS], cores[KEPT])
        part.figures["ratio_to_recsim_clock"] = ratio(samples[OURS], samples[FRESH])
        part.figures["ratio_to_recsim_kept_clock"] = ratio(samples[OURS], samples[KEPT])
        part.notes["ratio_to_recsim"] = (
            "steps by processor second, like for like: both draw fresh candidates every step (RecSim's own default); RecSim has "
            "one behaviour and no ranker, ours nine behaviours and one"
        )
        part.notes["ratio_to_recsim_kept"] = (
            "the same with RecSim keeping a session's documents, so that it draws none after the first step; ours still does"
        )
    return part


def memory(*, quick: bool) -> Part:
    """Resident memory after a warm-up and after many more steps of the same process."""
    part, n = Part(), 600_000 if quick else 10_000_000
    with Worker(sys.executable, "bench.simulator_worker", threads=1) as worker:
        worker.call("build", preset="default", n_candidates=N_CANDIDATES, batch=BATCH)
        before = worker.call("steps", n=100_000)
        after = worker.call("steps", n=n)
    rows = [["after 100,000 steps", before["rss_mb"]], [f"after {n:,} more", after["rss_mb"]]]
    part.table(["memory", "resident MiB"], rows, title="memory of one process")
    part.figures["rss_growth_mb"] = after["rss_mb"] - before["rss_mb"]
    return part


def calibration() -> Part:
    """The stored model of KuaiRand's log, fitted on the first days, beside the days after."""
    part, folder = Part(), data_folder("kuairand_pure")
    if folder is None:
        part.notes["classifier_auc"] = "null: no kuairand_pure below SCOREFUSION_DATA"
        return part
    model = LogModel.load(PRESETS / "kuairand.log.json")
    log = read_log(folder / "log_standard_0425_0506.parquet")
    day = days_of(log) - days_of(log).min()
    judged = with_scenarios(log.take(day >= FIT_DAYS), model.scenarios)
    simulated = sample(model, seed=1, n_days=int(day.max()) + 1 - FIT_DAYS, first_day=FIT_DAYS, scale=3.0)
    checks = compare(judged, simulated, model.heads)
    n_judged, n_passed = tally(checks)
    rows: list[list[Cell]] = [[c.kind, c.name, c.logged, c.simulated, c.distance, c.errors, c.verdict] for c in checks]
    headers = ["check", "of", "logged", "simulated", "distance", "std errors", "verdict"]
    part.table(headers, rows, title="calibration, judged days")
    part.figures = {
        "calibration_max_rel_error": worst(checks),
        "classifier_auc": checks[-1].simulated,
        "calibration_checks": n_judged,
        "calibration_checks_passed": n_passed,
        "calibration_ks_max": max(c.distance for c in checks if c.kind == "rate distribution"),
    }
    part.notes["calibration_max_rel_error"] = (
        "the largest relative error of a rate that is not within 2 standard errors; 0: all are"
    )
    part.notes["calibration_ks_max"] = f"goal {KS_HIGH}: distributions of per-user and per-item rates"
    return part


def all_orderings(bench: Bench, work: Path | None) -> None:
    """Every preset in its worlds; a preset's headroom is the mean over its worlds, the bound the lowest of theirs."""
    size, presets = (QUICK, ("default", "clickbait")) if bench.quick else (FULL, tuple(ONLY))
    claims, held = 0.0, 0.0
    for preset in bench.args.presets or presets:
        parts = []
        for seed in (0,) if bench.quick else SEEDS.get(preset, (0,)):
            name = f"{preset}-{seed}" + (f"-{course(preset, seed)}" if work else "")
            best = kept(work, f"tuned-{name}", partial(tuned, preset, seed, size))
            parts.append(kept(work, f"orderings-{name}", partial(orderings, preset, seed, size, best)))
            for title, headers, rows in parts[-1].tables:
                bench.table(headers, rows, title=title)
        bench.figure(f"{preset}_headroom", float(np.mean([part.figures["headroom"] for part in parts])))
        bench.figure(f"{preset}_headroom_low", min(part.figures["headroom_low"] or 0.0 for part in parts))
        bench.figure(f"{preset}_headroom_high", max(part.figures["headroom_high"] or 0.0 for part in parts))
        claims += sum(part.figures["promises"] or 0.0 for part in parts)
        held += sum(part.figures["promises_kept"] or 0.0 for part in parts)
    bench.figure("promises", claims)
    bench.figure("promises_kept", held)
    bench.note("promises_kept", "promises whose 95 % interval lies above 0; see each world's table")


OURS, FRESH, KEPT = "ours", "recsim, fresh documents", "recsim, same documents"


def _rate(workers: Sequence[Worker], n: int, per_core: list[float]) -> float:
    """User-steps per second of all workers together, by the slowest; those per processor second are added to `per_core`."""
    with ThreadPoolExecutor(len(workers)) as pool:
        start = time.perf_counter()
        answers = list(pool.map(lambda worker: worker.call("steps", n=n), workers))
        seconds = time.perf_counter() - start
    per_core.append(len(workers) * n / sum(answer["cpu_s"] for answer in answers))
    return len(workers) * n / seconds


if __name__ == "__main__":
    main()
