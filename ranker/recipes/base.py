"""What a recipe makes of files: a feature spec and the rows to train on, to choose by, and to judge on."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.logs import LoggedDataset
from ranker.config import TrainConfig
from ranker.features import FeatureSpec


@dataclass(frozen=True)
class Recipe:
    """A data set ready to train.

    Args:
        train, valid, test: Learn from, choose by, judge once on; split by time where the data has time.
        items, users: The tables that serving looks features up in, one row an id, as of the end of the log.
        config: Settings found good on the validation rows, to start from.
    """

    name: str
    spec: FeatureSpec
    train: LoggedDataset
    valid: LoggedDataset
    test: LoggedDataset
    items: LoggedDataset = field(default_factory=lambda: LoggedDataset({}))
    users: LoggedDataset = field(default_factory=lambda: LoggedDataset({}))
    config: TrainConfig = field(default_factory=TrainConfig, kw_only=True)
