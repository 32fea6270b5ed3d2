"""`scorefusion score`: write a ranker's predictions beside a log, as `score_<task>` columns that a search can read."""

from __future__ import annotations

import argparse

import numpy as np

from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from ranker.predictor import Predictor
from workflow.data import PARTS, add_data_arguments, add_store_argument, load, part, store_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--ranker", required=True, metavar="LABEL", help="ranker/NAME or ranker/NAME/vN")
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="test",
        help="which rows; a search on rows the ranker was trained on is misled (default: %(default)s)",
    )
    parser.add_argument("--out", required=True, metavar="FILE.parquet", help="where the scored log goes")


def run(args: argparse.Namespace) -> str:
    """Score and write."""
    if not args.out.endswith(".parquet"):
        raise ConfigError(f"--out {args.out!r} must end in .parquet")
    artefact = store_of(args).find(args.ranker)
    predictor = Predictor.load(artefact)
    rows = part(load(args), args.part)
    scored = with_scores(predictor, rows)
    scored.to_parquet(args.out)
    return f"{args.out}: {len(scored)} {args.part} rows with {len(predictor.scored)} scores of {artefact.label}"


def with_scores(predictor: Predictor, rows: LoggedDataset) -> LoggedDataset:
    """The rows with the ranker's predictions as `score_<task>`; scores that were logged before are replaced."""
    predictions = predictor.predict(rows)
    kept = {name: column for name, column in rows.columns.items() if not name.startswith(SCORE)}
    return LoggedDataset(kept | {SCORE + task: np.asarray(predictions[task], np.float64) for task in predictor.scored})
