"""`scorefusion plan`: check an experiment plan, show who is in which bucket, or what a change of plan would do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import yaml

from core.errors import ConfigError
from experiment.changes import compare_plans
from experiment.plan import Plan
from workflow.tables import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("action", choices=list(ACTIONS), help="check FILE, show FILE, or diff FILE NEW")
    parser.add_argument("file", metavar="FILE", help="a plan in YAML or JSON")
    parser.add_argument("other", metavar="NEW", nargs="?", help="diff: the plan that would replace it")
    parser.add_argument(
        "--strategies", metavar="NAMES", help="comma-separated names that buckets may serve; unchecked by default"
    )
    parser.add_argument("--unit", metavar="ID", help="show: one user's buckets instead of the shares")
    parser.add_argument("--attributes", metavar="YAML", default="{}", help="show: the user's attributes, such as '{country: DE}'")


def run(args: argparse.Namespace) -> str:
    """Check, show or compare."""
    return ACTIONS[args.action](args)


def check(args: argparse.Namespace) -> str:
    """Every rule, or one line that names the broken ones."""
    plan = _read(args.file, args)
    return (
        f"{args.file}: plan version {plan.version} is sound: {len(plan.layers)} layers, {len(plan.experiments)} experiments, "
        f"{len(plan.metrics)} metrics; serves {', '.join(plan.strategies) or 'no named strategy'}"
    )


def show(args: argparse.Namespace) -> str:
    """One user's buckets, or the share of users in each."""
    plan = _read(args.file, args)
    if args.unit is not None:
        rows = [
            [a.layer, a.experiment, a.bucket, a.strategy or "", "forced" if a.forced else ""]
            for a in plan.assign(args.unit, _attributes(args.attributes)).values()
        ]
        print(table(["layer", "experiment", "bucket", "strategy", ""], rows))
        return f"user {args.unit}: {len(rows)} buckets of {len(plan.layers)} layers"
    rows = []
    for layer in plan.layers:
        for e in layer.experiments:
            for bucket in e.buckets:
                share = (e.high - e.low) * e.coverage * bucket.weight * (1 - (plan.holdout.share if plan.holdout else 0))
                target = e.target.text if e.target else "everybody"
                rows.append([layer.name, e.name, e.unit, bucket.name, bucket.strategy or "", f"{share:.4f}", target])
    print(table(["layer", "experiment", "unit", "bucket", "strategy", "share of units", "among"], rows))
    return f"{args.file}: plan version {plan.version}"


def diff(args: argparse.Namespace) -> str:
    """What a new plan changes and whether it moves units that are assigned now."""
    if args.other is None:
        raise ConfigError("plan diff needs two files: scorefusion plan diff OLD.yaml NEW.yaml")
    change = compare_plans(_read(args.file, args), _read(args.other, args))
    for line in change.lines:
        print(line)
    moved = ", ".join(f"{share:.2%} of {layer}" for layer, share in change.moved.items() if share)
    return f"{len(change.lines)} changes; " + (f"moves {moved}" if moved else "no assigned unit moves")


ACTIONS: Mapping[str, Callable[[argparse.Namespace], str]] = {"check": check, "show": show, "diff": diff}


def _read(path: str, args: argparse.Namespace) -> Plan:
    if not path.endswith((".yaml", ".yml", ".json")):
        raise ConfigError(f"plan file {path!r} must end in .yaml, .yml or .json")
    strategies = None if args.strategies is None else [name.strip() for name in args.strategies.split(",")]
    return Plan.from_json(path, strategies=strategies) if path.endswith(".json") else Plan.from_yaml(path, strategies=strategies)


def _attributes(text: str) -> Mapping[str, object]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--attributes is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--attributes {text!r} must be a mapping, such as '{{country: DE}}'")
    return value
