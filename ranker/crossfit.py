"""Scores that no row's own label went into: train on the days before, score the next, day after day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from core.errors import DataError
from core.events import SCORE
from core.logs import LoggedDataset
from ranker.config import TrainConfig
from ranker.features import FeatureSpec
from ranker.train import train

DAY_MS = 86_400_000


def cross_fit(
    spec: FeatureSpec,
    model: str,
    log: LoggedDataset,
    *,
    days: Sequence[int] | None = None,
    day: str | None = None,
    config: TrainConfig | None = None,
    options: Mapping[str, Any] | None = None,
    refit: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> LoggedDataset:
    """The rows of `days` with a column `score_<task>` for each scored task, each from a ranker trained on earlier days only.

    For day d the epoch is chosen on the last day before d, and everything before that is learned from, so the third day of a log
    is the first that can be scored. Formulas and rankers above are fitted on these scores; in-sample ones would poison them.

    Args:
        days: Values of column `day` to score; all from the third on by default.
        day: The column that says a row's day; whole days of the spec's time column (milliseconds) by default.
        refit: Score so many days with one model before training the next.

    Raises:
        DataError: A day is not in the log, or fewer than two days lie before it.
    """
    of_row = log[day] if day is not None else (np.asarray(log[spec.time]) // DAY_MS).astype(np.int64)
    have = np.unique(of_row)
    wanted = list(have[2:]) if days is None else sorted(days)
    if not wanted:
        raise DataError(f"the log has {len(have)} days; scoring out of sample needs three or more")
    for value in wanted:
        if value not in have:
            raise DataError(f"day {value} is not in the log; its days are {', '.join(str(d) for d in have)}")
        if np.sum(have < value) < 2:
            raise DataError(f"day {value} has fewer than two days before it: one to learn from and one to choose the epoch by")
    parts = []
    for start in tqdm(range(0, len(wanted), refit), desc="cross-fit", disable=not progress):
        chunk = wanted[start : start + refit]
        before = have[have < chunk[0]]
        trained = train(
            spec,
            model,
            train=log.take(of_row < before[-1]),
            valid=log.take(of_row == before[-1]),
            config=config,
            options=options,
            seed=seed,
            progress=False,
        )
        rows = log.take(np.isin(of_row, chunk))
        scores = trained.predictor.score_columns(rows.columns)
        parts.append(rows.with_columns({f"{SCORE}{task}": scores[task] for task in scores.tasks}))
    return _concat(parts)


def _concat(parts: Sequence[LoggedDataset]) -> LoggedDataset:
    return LoggedDataset({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
