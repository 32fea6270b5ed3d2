"""`scorefusion evaluate`: judge a published ranker on the rows it was neither trained nor chosen on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from core.arrays import AnyArray
from core.artefacts import Artefact, json_bytes, write_whole
from core.drift import ACT, LOOK
from core.errors import ArtefactError, ConfigError
from core.logs import LoggedDataset
from ranker import report
from ranker.features import FeatureSpec
from ranker.incremental import drifted
from ranker.metrics import by_scenario, evaluate
from ranker.predictor import Predictor
from serving.published import reference_of
from workflow.data import PARTS, add_data_arguments, add_store_argument, load, part, store_of
from workflow.tables import metrics_table, table

SCENARIO_METRICS = ("n", "auc", "gauc", "logloss", "ece", "calibration", "rmse", "mae", "accuracy")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--ranker", required=True, metavar="LABEL", help="ranker/NAME or ranker/NAME/vN")
    parser.add_argument("--part", choices=PARTS, default="test", help="which rows (default: %(default)s)")
    parser.add_argument("--drift", metavar="LABEL", help="a release: also how far the scores lie from those it was fitted to")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")
    parser.add_argument(
        "--report", metavar="FOLDER", help="write evaluation.html and evaluation.json, with calibration curves, here"
    )


def run(args: argparse.Namespace) -> str:
    """Score, measure, print: by task, by scenario, and what drifted away from the training rows."""
    artefact = store_of(args).find(args.ranker)
    predictor = Predictor.load(artefact)
    recipe = load(args)
    require_features(artefact.label, predictor.spec, recipe.spec)
    rows = part(recipe, args.part)
    predictions = predictor.predict(rows)
    facts = evaluation(predictor, rows, predictions)
    print(metrics_table(facts["metrics"]))
    if len(facts["scenarios"]) > 1:
        print(f"\n{scenario_table(facts['scenarios'])}")
    psi = drift(store_of(args).find(args.drift), predictions) if args.drift else {}
    if psi:
        print(table(["task", "PSI", ""], [[task, value, reading(value)] for task, value in psi.items()]))
    for name, shift in facts["drifted"].items():
        print(f"warning: the mean of {name} lies {shift:+.2f} standard deviations from that of the training rows")
    about = {"ranker": artefact.label, "part": args.part, "data_fingerprint": rows.fingerprint()}
    content = report.plain({**about, **facts, **({"drift": psi} if args.drift else {})})
    if args.json:
        write_whole(args.json, json_bytes(content))
    if args.report:
        report.write_evaluation(content, args.report)
    return f"{artefact.label} on {len(rows)} {args.part} rows of {args.data}"


def evaluation(predictor: Predictor, rows: LoggedDataset, predictions: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Metrics by task and by scenario, calibration curves, and features whose mean drifted."""
    spec = predictor.spec
    scenario = spec.scenario if spec.scenario is not None and spec.scenario in rows else None
    return {
        "metrics": evaluate(predictions, rows, predictor.tasks, group=spec.user),
        "scenarios": by_scenario(predictions, rows, predictor.tasks, scenario, group=spec.user) if scenario else {},
        "calibration": report.calibration_curves(predictor.tasks, rows, predictions),
        "drifted": drifted(predictor, rows.columns),
    }


def scenario_table(scenarios: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One line a scenario and task."""
    names = [n for n in SCENARIO_METRICS if any(n in row for tasks in scenarios.values() for row in tasks.values())]
    lines = []
    for scenario, tasks in scenarios.items():
        for task, row in tasks.items():
            lines.append([scenario, task, *(int(row[n]) if n == "n" else row.get(n, float("nan")) for n in names)])
    return table(["scenario", "task", *names], lines)


def require_features(label: str, trained: FeatureSpec, given: FeatureSpec) -> None:
    """Refuse a ranker for data whose spec lacks a feature it reads, or reads that column as something else.

    Raises:
        ArtefactError: It names the first such feature.
    """
    now = {feature.name: feature for feature in given.features}
    for feature in trained.features:
        if feature.name not in now:
            raise ArtefactError(f"{label} reads feature {feature.name!r}, which the feature spec no longer has; train again")
        other = now[feature.name]
        for field in ("kind", "side", "column"):
            if getattr(feature, field) != getattr(other, field):
                change = f"{field} {getattr(feature, field)!r} became {getattr(other, field)!r}"
                raise ArtefactError(f"{label} was trained with another feature spec: {feature.name!r}, {change}; train again")


def drift(release: Artefact, scores: Mapping[str, AnyArray]) -> dict[str, float]:
    """The population stability index of each task's scores against the release's reference."""
    reference = reference_of(release)
    if reference is None:
        raise ConfigError(f"{release.label} was published without --reference; there is nothing to measure drift from")
    return reference.psi(scores)


def reading(psi: float) -> str:
    """What an index means.

    >>> [reading(value) for value in (0.02, 0.2, 0.9)]
    ['the same scores', 'look', 'other scores: fit the fusion again']
    """
    if psi != psi:
        return "cannot be told"
    return "the same scores" if psi < LOOK else "look" if psi < ACT else "other scores: fit the fusion again"
