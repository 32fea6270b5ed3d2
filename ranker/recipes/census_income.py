"""Census-Income (KDD), UCI 117: the multi-task literature's tabular pair of tasks, in its official split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec
from ranker.recipes.base import Recipe

FILE = "census_income_kdd.parquet"
PAIRS = {"income": ("y_income50k", "y_never_married"), "college": ("y_some_college", "y_never_married")}
LABELS = ("y_income50k", "y_never_married", "y_some_college")
NEVER = ("income_50k", "marital_stat", "instance_weight", "split", *LABELS)  # the answers, the weight, and the split itself
CONFIG = TrainConfig(epochs=8, batch_size=512, learning_rate=2e-3, schedule="cosine", patience=8)
OPTIONS = {"hidden": (128, 64), "dropout": 0.2, "members": 3}
NUMBERS = ("age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends", "num_emp", "weeks_worked")


def load(folder: str | Path, *, pair: str = "income", dim: int = 8) -> Recipe:
    """Official split; the last tenth of the training rows chooses the epoch.

    Args:
        folder: Holds `census_income_kdd.parquet`, or is that file.
        pair: `income` (income over 50 k, never married; education is an input) or `college` (some college, never married).
        dim: Width of the embeddings.
    """
    if pair not in PAIRS:
        raise ConfigError(f"census pair {pair!r} is not one of {', '.join(PAIRS)}")
    path = Path(folder)
    log = LoggedDataset.from_parquet(path if path.is_file() else path / FILE).require([*LABELS, "split", *NUMBERS])
    tasks = TaskSet([TaskSpec(name) for name in PAIRS[pair]])
    left_out = {*NEVER} | ({"education"} if pair == "college" else set())
    features = []
    for name in log:
        if name in left_out:
            continue
        if name in NUMBERS:
            features.append(Feature(name, kind="dense", transform="piecewise", steps=16))
            features.append(Feature(f"{name}_bin", column=name, bins=24, dim=dim))
            features.append(
                Feature(f"{name}_value", column=name, min_count=10, dim=dim)
            )  # a gain of 15,024 is a group of its own
        else:
            features.append(Feature(name, dim=dim, missing="fill"))
    kept = log["split"] == "train"
    if not kept.any() or kept.all():
        raise DataError("the census file's column split must hold both train and test rows")
    known = log.take(kept)
    cut = int(len(known) * 0.9)
    rows = np.arange(len(known))
    parts = known.take(rows < cut), known.take(rows >= cut), log.take(~kept)
    return Recipe("census_income", FeatureSpec(features, tasks), *parts, config=CONFIG, options=OPTIONS)
