"""What `search` and `learn` start from: a scored log, split into days to choose on and later days that judge."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.predictor import Predictor
from workflow.data import add_store_argument, mapping_option, store_of

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Scored:
    """Impressions with a ranker's out-of-sample scores.

    Attributes:
        tasks: The ranker's. gains: What one behaviour is worth. earlier: The days to choose on. later: The days that judge.
    """

    store: ArtefactStore
    ranker: Artefact
    tasks: TaskSet
    gains: Mapping[str, float]
    earlier: LoggedDataset
    later: LoggedDataset


def add_scored_arguments(parser: argparse.ArgumentParser) -> None:
    """`--artefacts`, `--log`, `--ranker`, `--gains` and `--heldout-days`."""
    add_store_argument(parser)
    parser.add_argument("--log", required=True, metavar="FILE.parquet", help="what `scorefusion score` wrote")
    parser.add_argument("--ranker", required=True, metavar="LABEL", help="the ranker that scored it; its tasks are used")
    parser.add_argument("--gains", metavar="YAML", help="worth of one behaviour each, such as '{click: 1, like: 5}' (MTF-GAUC)")
    parser.add_argument("--heldout-days", type=int, default=1, help="last days that judge the choice (default: %(default)s)")


def scored_of(args: argparse.Namespace) -> Scored:
    """What the options name.

    Raises:
        ScorefusionError: The ranker or the log is missing, the log lacks scores, there are no gains or too few days.
    """
    store = store_of(args)
    ranker = store.find(args.ranker)
    tasks = Predictor.load(ranker).tasks
    gains = {name: float(value) for name, value in mapping_option("--gains", args.gains).items()}
    if not gains:
        raise ConfigError("--gains is missing; say what a behaviour is worth, such as '{click: 1, like: 5}'")
    log = LoggedDataset.from_parquet(args.log).require([SCORE + name for name in tasks.scored])
    return Scored(store, ranker, tasks, gains, *split_last_days(log, args.heldout_days))


def split_last_days(log: LoggedDataset, n: int) -> tuple[LoggedDataset, LoggedDataset]:
    """Rows before the last `n` days, and those days; a day is column `date` when there is one, else 24 hours of `time_ms`."""
    day = log["date"] if "date" in log else log["time_ms"] // DAY_MS
    days = np.unique(day)
    if not 0 < n < len(days):
        raise ConfigError(f"--heldout-days {n} must leave days to search on; the log holds {len(days)}")
    return log.take(day < days[-n]), log.take(day >= days[-n])
