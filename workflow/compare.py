"""`scorefusion compare`: read an experiment from the event store: effects with intervals, checks, a verdict."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Any

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
from workflow.tables import table as plain_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--store", metavar="URL", required=True, help="duckdb:///path/events.duckdb or postgresql://...")
    parser.add_argument("--plan", metavar="FILE", required=True, help="the plan in YAML or JSON that served")
    parser.add_argument("--experiment", metavar="NAME", help="one of the plan's experiments; needed when it has several")
    parser.add_argument("--control", metavar="BUCKET", help="the bucket to compare with (default: as planned)")
    parser.add_argument("--correction", choices=list(METHODS), default="fdr", help="for many metrics (default: %(default)s)")
    parser.add_argument("--now-ms", type=int, help="time of reading, for metric windows (default: the newest event)")
    parser.add_argument("--by", choices=["scenario", "days"], help="also by the unit's scenario, or by days since first exposure")
    parser.add_argument(
        "--reuse", metavar="FILE.json", help="what buckets that never ran would have got: the ope.json of `scorefusion ope`"
    )
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
    reused = _reused(args.reuse) if args.reuse else None
    extra = {**({"by": plain(asdict(view))} if view else {}), **({"reuse": reused} if reused else {})}
    value = json.dumps({**report.to_json(), **extra}, allow_nan=False)
    if args.out:
        Path(args.out).write_text(value + "\n")
    if args.json:
        return value
    print(table(report))
    if view:
        print("\n" + view_table(view))
    if reused:
        print("\n" + _reused_table(reused))
    verdicts = "; ".join(f"{verdict.treatment}: {verdict.decision}" for verdict in report.verdicts.values())
    return f"{name}: {sum(report.counts.values()):,} units, {verdicts}"


def _reused(path: str) -> dict[str, Any]:
    """Off-policy estimates that were made before."""
    try:
        found = json.loads(Path(path).read_text())
        _reused_table(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--reuse {path!r} is no ope.json of `scorefusion ope` ({error})") from error
    kept: dict[str, Any] = found
    return kept


def _reused_table(found: Mapping[str, Any]) -> str:
    """Estimates of buckets that never ran, under what the logging policy itself got a session."""
    names = ("policy", "estimator", "status", "value", "low", "high", "effective")
    rows = [[nan if row[name] is None else row[name] for name in names] for row in (found["logged"], *found["estimates"])]
    return f"buckets that never ran, return a session by {found['source']}:\n" + plain_table(names, rows)


def _view(
    by: str | None, store: EventStore, experiment: Experiment, metrics: Sequence[Metric], now_ms: int | None
) -> View | None:
    if by == "scenario":
        return by_segment(read_units(store, experiment, metrics, now_ms=now_ms, segment="scenario"), metrics)
    return novelty(store, experiment, metrics, now_ms=now_ms) if by == "days" else None
