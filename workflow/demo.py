"""`scorefusion demo`: log, train, search, publish, serve, send users, compare: the whole loop on one machine, in minutes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from core.artefacts import Artefact
from core.errors import ConfigError
from core.logs import LoggedDataset
from fusion.calibrate import fit
from fusion.formula.families import family
from fusion.search import Param, SearchResult, Space, search, write
from fusion.strategy import publish
from ranker.recipes import Recipe
from ranker.train import TrainConfig, Trained, train
from serving.client import Client
from serving.settings import Settings
from workflow.data import store_of
from workflow.demo_sources import SOURCES, Source
from workflow.score import with_scores
from workflow.scored import split_last_days
from workflow.search import objective, publish_result, result_table
from workflow.serve import serving
from workflow.tables import metrics_table, table

EXPERIMENT, CONTROL, SEARCHED, POLICY = "fusion", "hand_set", "searched", "policy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--exit", action="store_true", help="stop after the readout; the last line is then one JSON object")
    parser.add_argument("--data", metavar="DIR", help="train, search and serve on real KuaiRand from this folder")
    parser.add_argument("--work", default="runs/demo", metavar="FOLDER", help="where everything is kept (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--users", type=int, default=2000, help="simulated users (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=512, help="trials of the search (default: %(default)s)")


def run(args: argparse.Namespace) -> str:
    """Run the loop and, unless `--exit`, stay up until Ctrl-C."""
    if args.users < 100:
        raise ConfigError(f"--users {args.users} must be at least 100; fewer give no readout")
    begun = time.monotonic()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    args.artefacts = str(work / "artefacts")
    source: Source = SOURCES["kuairand" if args.data else "simulated"](args, work)
    buckets = (CONTROL, SEARCHED, POLICY) if source.learns else (CONTROL, SEARCHED)
    say = _Steps(len(buckets) + 3)
    say(source.says)
    recipe = source.recipe()

    say(f"train an MMoE on {len(recipe.train)} impressions, {len(recipe.spec.tasks)} tasks; later rows choose the epoch")
    trained, ranker, scored = _train(recipe, source, args)

    say(f"search a formula on {len(scored)} impressions the ranker has not seen; the last day judges it")
    result = _search(recipe, scored, source, args, work)
    publish_result(store_of(args), SEARCHED, result, ranker)
    if source.learns:
        say(source.learns)
        strategy, metrics, line = source.learn(trained.predictor)
        print(line, flush=True)
        publish(store_of(args), POLICY, strategy, ranker=ranker.label, seed=args.seed, metrics=metrics)

    settings = _settings(args, work, recipe, ranker, source, buckets)
    say(f"serve on port {settings.port}: each user is in one of the buckets {', '.join(buckets)}")
    with serving(settings, say=_line) as service:
        say(source.sends)
        print(source.send(service.url), flush=True)
        report = _readout(service.url, settings)
        print(readout_table(report), flush=True)
        print(f"\npages: {service.url}/   readout: {service.url}/experiments/{EXPERIMENT}   API: {service.url}/docs", flush=True)
        if not args.exit:
            print("the service stays up; Ctrl-C stops it", flush=True)
            service.wait()
    return summary(report, time.monotonic() - begun) if args.exit else f"{work}: log, artefacts and events of the demo"


class _Steps:
    def __init__(self, n: int) -> None:
        self.n, self.at = n, 0

    def __call__(self, text: str) -> None:
        self.at += 1
        _line(f"[{self.at}/{self.n}] {text}")


def _line(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _train(recipe: Recipe, source: Source, args: argparse.Namespace) -> tuple[Trained, Artefact, LoggedDataset]:
    """A ranker, as it is and published, and the later rows with its out-of-sample scores."""
    torch.set_num_threads(2)
    trained = train(
        recipe.spec,
        "mmoe",
        train=recipe.train,
        valid=recipe.valid,
        config=TrainConfig.from_json(source.training),
        options={"n_experts": 4, "hidden": [64, 32]},
        seed=args.seed,
    )
    print(metrics_table(trained.metrics), flush=True)
    artefact = trained.publish(store_of(args), "demo")
    return trained, artefact, with_scores(trained.predictor, recipe.test)


def _search(recipe: Recipe, scored: LoggedDataset, source: Source, args: argparse.Namespace, work: Path) -> SearchResult:
    tasks = recipe.spec.tasks
    earlier, later = split_last_days(scored, source.heldout_days)
    chosen = family(source.family, tasks)
    result = search(
        chosen.formula,
        earlier,
        later,
        space=Space([Param(name, *chosen.ranges[name]) for name in chosen.formula.params], chosen.scale_free),
        objective=objective("mtf_gauc", source.gains),
        hand_set=source.hand_set,
        searcher="cem",
        n_trials=args.trials,
        seed=args.seed,
        calibration=fit(earlier, tasks, "isotonic"),
    )
    print(result_table(result), flush=True)
    write(result, work / "search")
    return result


def _settings(
    args: argparse.Namespace, work: Path, recipe: Recipe, ranker: Artefact, source: Source, buckets: Sequence[str]
) -> Settings:
    """Feature tables, plan and settings as files, so that `scorefusion serve --config` serves the same again."""
    recipe.items.to_parquet(work / "items.parquet")
    recipe.users.to_parquet(work / "users.parquet")
    (work / "plan.yaml").write_text(yaml.safe_dump(plan(source.metrics, buckets), sort_keys=False))
    (work / "events.duckdb").unlink(missing_ok=True)  # every demo is an experiment of its own
    (work / "events.duckdb.wal").unlink(missing_ok=True)
    values = {
        "port": args.port,
        "work_dir": str(work),
        "ranker": ranker.label,
        "strategies": {name: f"strategy/{name}" for name in buckets},
        "default_strategy": CONTROL,
        "items": "items.parquet",
        "users": "users.parquet",
        "plan": "plan.yaml",
    }
    (work / "serve.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return Settings.load(work / "serve.yaml")


def plan(metrics: Sequence[Mapping[str, Any]], buckets: Sequence[str]) -> dict[str, Any]:
    """One layer, one experiment, equal buckets, the control first; the first metric is the primary one."""
    names = [str(metric["name"]) for metric in metrics]
    experiment = {
        "name": EXPERIMENT,
        "analysis": {"metrics": names, "primary": names[0], "control": CONTROL},
        "buckets": [{"name": name, "weight": 1 / len(buckets), "strategy": name} for name in buckets],
    }
    layers = [{"name": "fusion", "experiments": [experiment]}]
    return {"version": 1, "default_strategy": CONTROL, "metrics": [dict(m) for m in metrics], "layers": layers}


def _readout(url: str, settings: Settings) -> dict[str, Any]:
    """The readout once everything sent has reached the store."""
    time.sleep(5 * settings.flush_ms / 1000)
    with Client(url) as client:
        return client.readout(EXPERIMENT)


def readout_table(report: Mapping[str, Any]) -> str:
    """The readout for people: every metric and bucket with its effect and interval, sample ratio, verdicts."""
    rows = [
        [row["metric"], _number(row["control"]), row["bucket"], _number(row["treatment"]), _effect(row), _p(row["p_value"])]
        for row in report["rows"]
    ]
    counts = ", ".join(f"{name} {n}" for name, n in report["counts"].items())
    head = ["metric", CONTROL, "bucket", "value", "difference [95 % interval]", "p"]
    verdicts = [f"verdict on {name}: {v['decision']} ({v['reason']})" for name, v in report["verdicts"].items()]
    return "\n".join(["", table(head, rows), f"users: {counts}; sample-ratio test p = {_p(report['srm_p'])}", *verdicts])


def summary(report: Mapping[str, Any], seconds: float) -> str:
    """The demo's last line: one JSON object."""
    primary = report["rows"][0]["metric"]
    rows = {row["bucket"]: row for row in report["rows"] if row["metric"] == primary}
    control = {"treatment": report["rows"][0]["control"], "diff": 0.0, "diff_low": 0.0, "diff_high": 0.0}
    buckets: dict[str, Any] = {}
    for name, n in report["counts"].items():
        row = rows.get(name, control)
        effect = {key: row[key] for key in ("diff", "diff_low", "diff_high")}
        buckets[name] = {"n_units": n, "metric": row["treatment"], **effect}
    return json.dumps({"buckets": buckets, "srm_p": report["srm_p"], "seconds": round(seconds, 1)})


def _effect(row: Mapping[str, Any]) -> str:
    if row["diff"] is None:
        return str(row["status"])
    return f"{row['diff']:+.4g} [{row['diff_low']:+.4g}, {row['diff_high']:+.4g}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else "<.001"
