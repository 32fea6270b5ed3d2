"""`scorefusion evaluate`: judge a published ranker on the rows it was neither trained nor chosen on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from core.arrays import AnyArray
from core.artefacts import Artefact, json_bytes
from core.drift import ACT, LOOK
from core.errors import ConfigError
from ranker.metrics import evaluate
from ranker.predictor import Predictor
from serving.published import reference_of
from workflow.data import PARTS, add_data_arguments, add_store_argument, load, part, store_of
from workflow.tables import metrics_table, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--ranker", required=True, metavar="LABEL", help="ranker/NAME or ranker/NAME/vN")
    parser.add_argument("--part", choices=PARTS, default="test", help="which rows (default: %(default)s)")
    parser.add_argument("--drift", metavar="LABEL", help="a release: also how far the scores lie from those it was fitted to")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")


def run(args: argparse.Namespace) -> str:
    """Score, measure, print."""
    artefact = store_of(args).find(args.ranker)
    predictor = Predictor.load(artefact)
    rows = part(load(args), args.part)
    predictions = predictor.predict(rows)
    metrics = evaluate(predictions, rows, predictor.tasks, group=predictor.spec.user)
    print(metrics_table(metrics))
    psi = drift(store_of(args).find(args.drift), predictions) if args.drift else {}
    if psi:
        print(table(["task", "PSI", ""], [[task, value, reading(value)] for task, value in psi.items()]))
    if args.json:
        plain = {task: {k: None if v != v else v for k, v in row.items()} for task, row in metrics.items()}
        content = {"ranker": artefact.label, "part": args.part, "data_fingerprint": rows.fingerprint(), "metrics": plain}
        content |= {"drift": {task: None if v != v else v for task, v in psi.items()}} if args.drift else {}
        Path(args.json).write_bytes(json_bytes(json.loads(json.dumps(content))))
    return f"{artefact.label} on {len(rows)} {args.part} rows of {args.data}"


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
