"""`scorefusion evaluate`: judge a published ranker on the rows it was neither trained nor chosen on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from core.artefacts import json_bytes
from ranker.metrics import evaluate
from ranker.predictor import Predictor
from workflow.data import PARTS, add_data_arguments, add_store_argument, load, part, store_of
from workflow.tables import metrics_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--ranker", required=True, metavar="LABEL", help="ranker/NAME or ranker/NAME/vN")
    parser.add_argument("--part", choices=PARTS, default="test", help="which rows (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")


def run(args: argparse.Namespace) -> str:
    """Score, measure, print."""
    artefact = store_of(args).find(args.ranker)
    predictor = Predictor.load(artefact)
    rows = part(load(args), args.part)
    metrics = evaluate(predictor.predict(rows), rows, predictor.tasks, group=predictor.spec.user)
    print(metrics_table(metrics))
    if args.json:
        plain = {task: {k: None if v != v else v for k, v in row.items()} for task, row in metrics.items()}
        content = {"ranker": artefact.label, "part": args.part, "data_fingerprint": rows.fingerprint(), "metrics": plain}
        Path(args.json).write_bytes(json_bytes(json.loads(json.dumps(content))))
    return f"{artefact.label} on {len(rows)} {args.part} rows of {args.data}"
