"""`scorefusion compare`: read an experiment from the event store: effects with intervals, checks, a verdict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from core.errors import ConfigError
from experiment.metrics import Metric
from experiment.multiplicity import METHODS
from experiment.plain import plain
from experiment.plan import Plan
from experiment.plan_parts import Experiment
from experiment.readout import choose_metrics, readout
from experiment.report import table, view_table
from experiment.store import EventStore, open_store
from experiment.units import read_units
from experiment.views import View, by_segment, novelty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--store", metavar="URL", required=True, help="duckdb:///path/events.duckdb or postgresql://...")
    parser.add_argument("--plan", metavar="FILE", required=True, help="the plan in YAML or JSON that served")
    parser.add_argument("--experiment", metavar="NAME", help="one of the plan's experiments; needed when it has several")
    parser.add_argument("--control", metavar="BUCKET", help="the bucket to compare with (default: as planned)")
    parser.add_argument("--correction", choices=list(METHODS), default="fdr", help="for many metrics (default: %(default)s)")
    parser.add_argument("--now-ms", type=int, help="time of reading, for metric windows (default: the newest event)")
    parser.add_argument("--by", choices=["scenario", "days"], help="also by the unit's scenario, or by days since first exposure")
    parser.add_argument("--json", action="store_true", help="print the readout as one JSON object instead of a table")
    parser.add_argument("--out", metavar="FILE.json", help="also write the JSON to a file")


def run(args: argparse.Namespace) -> str:
    """Read, print, and say the verdict."""
    plan = Plan.from_json(Path(args.plan)) if args.plan.endswith(".json") else Plan.from_yaml(Path(args.plan))
    name = args.experiment
    if name is None:
        if len(plan.experiments) != 1:
            raise ConfigError(f"--experiment is missing; the plan has {', '.join(plan.experiments) or 'no experiments'}")
        name = next(iter(plan.experiments))
    store = open_store(args.store, read_only=True)
    try:
        experiment = plan.experiment(name)
        report = readout(store, experiment, plan.metrics, control=args.control, now_ms=args.now_ms, correction=args.correction)
        view = _view(args.by, store, experiment, choose_metrics(experiment, plan.metrics), args.now_ms)
    finally:
        store.close()
    value = json.dumps({**report.to_json(), **({"by": plain(asdict(view))} if view else {})}, allow_nan=False)
    if args.out:
        Path(args.out).write_text(value + "\n")
    if args.json:
        return value
    print(table(report))
    if view:
        print("\n" + view_table(view))
    verdicts = "; ".join(f"{verdict.treatment}: {verdict.decision}" for verdict in report.verdicts.values())
    return f"{name}: {sum(report.counts.values()):,} units, {verdicts}"


def _view(
    by: str | None, store: EventStore, experiment: Experiment, metrics: Sequence[Metric], now_ms: int | None
) -> View | None:
    if by == "scenario":
        return by_segment(read_units(store, experiment, metrics, now_ms=now_ms, segment="scenario"), metrics)
    return novelty(store, experiment, metrics, now_ms=now_ms) if by == "days" else None
