"""`scorefusion score`: write a ranker's predictions beside a log, as `score_<task>` columns that a search can read."""

from __future__ import annotations

import argparse

import numpy as np

from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from ranker.config import TrainConfig
from ranker.crossfit import cross_fit
from ranker.predictor import Predictor
from workflow.data import PARTS, add_data_arguments, add_store_argument, add_worker_arguments, load, part, spread, store_of
from workflow.evaluate import require_features


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
    parser.add_argument(
        "--cross-fit",
        action="store_true",
        help="train the ranker's architecture anew on the days before each day, and score every day from the third on",
    )
    parser.add_argument("--refit", type=int, default=1, metavar="N", help="--cross-fit: days one training scores (default: 1)")
    add_worker_arguments(parser)
    parser.add_argument("--out", required=True, metavar="FILE.parquet", help="where the scored log goes")


def run(args: argparse.Namespace) -> str:
    """Score and write."""
    if not args.out.endswith(".parquet"):
        raise ConfigError(f"--out {args.out!r} must end in .parquet")
    if args.refit < 1:
        raise ConfigError(f"--refit {args.refit} must be at least 1 day")
    if spread(args) and args.cross_fit:
        raise ConfigError("--cross-fit trains in one process; leave --workers and --address out")
    artefact = store_of(args).find(args.ranker)
    predictor = Predictor.load(artefact)
    recipe = load(args)
    require_features(artefact.label, predictor.spec, recipe.spec)
    if args.cross_fit:
        rows = without_scores(part(recipe, "all"))
        config = TrainConfig.from_json(artefact.config["train"])
        model, options = artefact.config["model"], artefact.config["options"]
        scored = cross_fit(recipe.spec, model, rows, config=config, options=options, refit=args.refit, seed=args.seed)
        scored.to_parquet(args.out)
        return f"{args.out}: {len(scored)} rows, each scored by a {model} trained on the days before it"
    if spread(args):
        from ranker.distributed import score_workers  # here: Ray takes seconds to import

        rows = without_scores(part(recipe, args.part))
        scored = score_workers(artefact, rows, n_workers=args.workers, address=args.address)
    else:
        scored = with_scores(predictor, part(recipe, args.part))
    scored.to_parquet(args.out)
    return f"{args.out}: {len(scored)} {args.part} rows with {len(predictor.scored)} scores of {artefact.label}"


def with_scores(predictor: Predictor, rows: LoggedDataset) -> LoggedDataset:
    """The rows with the ranker's predictions as `score_<task>`; scores that were logged before are replaced."""
    predictions = predictor.predict(rows)
    return without_scores(rows).with_columns(
        {SCORE + task: np.asarray(predictions[task], np.float64) for task in predictor.scored}
    )


def without_scores(rows: LoggedDataset) -> LoggedDataset:
    """The rows without the scores that whatever served them logged."""
    return LoggedDataset({name: column for name, column in rows.columns.items() if not name.startswith(SCORE)})
