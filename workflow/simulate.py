"""`scorefusion simulate`: make a world, let its users live or play sessions, and write the log with its tables."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from core.errors import ConfigError
from simulator.calibration import Check, compare, fit, read_log, sample, tally
from simulator.calibration.report import write_report
from simulator.calibration.source import days_of, with_scenarios
from simulator.calibration.world import preset as world_preset
from simulator.predictions import check_tasks
from simulator.settings import load_settings, preset_names
from simulator.shards import POLICIES, Mapper, Shard, Work, cut, gather, run_shard, run_shards
from simulator.world import World
from workflow.data import add_store_argument, store_of
from workflow.world_ranker import WorldRanker, predictor_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--preset", default="default", help=f"{', '.join(preset_names())}, or a .yaml file (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="runs/world", metavar="FOLDER", help="where the log and the tables go (default: %(default)s)"
    )
    parser.add_argument("--users", type=int, metavar="N", help="how many users there are (default: the preset's)")
    parser.add_argument("--days", type=int, default=7, metavar="N", help="days the users live through (default: %(default)s)")
    parser.add_argument("--sessions", type=int, metavar="N", help="instead of days: separate sessions of random users")
    parser.add_argument("--policy", choices=POLICIES, default="mixed", help="what ranks while logging (default: %(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of the preset; repeatable"
    )
    parser.add_argument("--calibrate", metavar="LOG", help="fit a preset to a Parquet log instead (KuaiRand's columns or ours)")
    parser.add_argument(
        "--fit-days", type=int, metavar="N", help="with --calibrate: days to fit on, the others judge (default: 2/3)"
    )
    parser.add_argument(
        "--report", metavar="FILE.html", help="with --calibrate: where the page goes (default: OUT/calibration.html)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="Ray worker processes; the log is the same (default: 1)"
    )
    parser.add_argument(
        "--ranker", metavar="LABEL", help="a trained ranker (ranker/NAME or ranker/NAME/vN) scores in the simulated one's place"
    )
    add_store_argument(parser)


def run(args: argparse.Namespace) -> str:
    """Simulate; a run that was stopped goes on where it was."""
    if args.calibrate is not None:
        return calibrate(args)
    if args.workers < 1:
        raise ConfigError(f"--workers {args.workers} must be at least 1")
    overrides = settings_of(args.set)
    if args.users is not None:
        overrides["n_users"] = args.users
    settings = load_settings(args.preset, **overrides)
    out = Path(args.out)
    world = World(settings, args.seed)
    n_days = None if args.sessions is not None else args.days
    n = settings.n_users if args.sessions is None else args.sessions
    parts = out / "parts"
    work: Work = run_shard
    label = ""
    if args.ranker:
        label, root = store_of(args).find(args.ranker).label, str(Path(args.artefacts).resolve())
        check_tasks(predictor_of(root, label).scored, world.tasks.names)
        work = partial(run_ranked, root)
    shards = cut(
        settings,
        parts,
        world_seed=args.seed,
        seed=args.seed,
        policy=args.policy,
        n=n,
        n_days=n_days,
        ranker=label,
    )
    mapper = ray_mapper(args.workers) if args.workers > 1 else None
    for _ in tqdm(run_shards(shards, mapper, work), total=len(shards), unit="shard", desc="simulate"):
        pass
    world.save(out)
    rows = gather(shards, out / "log.parquet")
    shutil.rmtree(parts)
    what = f"{args.sessions} sessions" if n_days is None else f"{n} users over {n_days} days"
    return f"{out}: {rows} impressions of {what} in world {settings.preset!r} (seed {args.seed})"


def run_ranked(root: str, shard: Shard) -> str:
    """Roll a shard out with the trained ranker that it names, from the artefacts below `root`."""
    return run_shard(shard, partial(WorldRanker, predictor_of(root, shard.ranker)))


def calibrate(args: argparse.Namespace) -> str:
    """Fit on the first days, judge on the others, and write model, world preset, checks and page."""
    out, log = Path(args.out), read_log(args.calibrate)
    day = days_of(log) - days_of(log).min()
    n_days = int(day.max()) + 1
    fit_days = args.fit_days if args.fit_days is not None else max(2 * n_days // 3, 1)
    if not 0 < fit_days < n_days:
        raise ConfigError(f"--fit-days {fit_days}: the log has {n_days} days; some must be left to judge by")
    fitted, judged = log.take(day < fit_days), log.take(day >= fit_days)
    model = fit(fitted, name=out.name, window_days=min(n_days - fit_days, fit_days), seed=args.seed, progress=True)
    judged = with_scenarios(judged, model.scenarios)
    simulated = sample(model, seed=args.seed + 1, n_days=n_days - fit_days, first_day=fit_days, scale=3.0)
    checks = compare(judged, simulated, model.heads, seed=args.seed)
    model.save(out / "calibration.json")
    (out / "world.yaml").write_text(yaml.safe_dump(world_preset(model, fitted), sort_keys=False))
    (out / "checks.json").write_text(json.dumps([check.to_json() for check in checks], indent=1) + "\n")
    page = write_report(args.report or out / "calibration.html", model, judged, simulated, checks)
    print(_table(checks))
    n_judged, n_passed = tally(checks)
    return f"{out}: fitted on {fit_days} days, judged on {n_days - fit_days}: {n_passed} of {n_judged} checks pass; see {page}"


def _table(checks: list[Check]) -> str:
    return "\n".join(f"{c.kind:22} {c.name:30} {c.logged:9.4f} {c.simulated:9.4f} {c.distance:8.3f} {c.verdict}" for c in checks)


def settings_of(pairs: Iterable[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as settings; values are read as YAML.

    >>> settings_of(["n_items=500", "click_rate=0.2"])
    {'n_items': 500, 'click_rate': 0.2}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair!r} must read NAME=VALUE")
        found[name] = yaml.safe_load(value)
    return found


def _on_worker(work: Work, shard: Shard) -> str:
    return work(shard)


def ray_mapper(n_workers: int) -> Mapper:
    """Runs shards as Ray tasks, at most `n_workers` at a time, yielding files as they are done."""
    import ray

    def run_all(work: Work, shards: list[Shard]) -> Iterable[str]:
        mine = not ray.is_initialized()
        if mine:
            ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False)
        try:
            task = ray.remote(num_cpus=1)(_on_worker)
            running = [task.remote(work, shard) for shard in shards[:n_workers]]
            waiting = list(shards[n_workers:])
            while running:
                done, running = ray.wait(running)
                if waiting:
                    running.append(task.remote(work, waiting.pop(0)))
                yield from ray.get(done)
        finally:
            if mine:
                ray.shutdown()

    return run_all
