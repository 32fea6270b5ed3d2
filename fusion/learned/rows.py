"""What learned fusions learn from: task scores, a graded relevance, and the groups within which items compete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from core.arrays import Floats, Ints
from core.errors import DataError
from core.events import SCORE
from core.logs import LoggedDataset
from core.scores import ScoreTable
from fusion.fused import FusionStrategy
from fusion.search.objective import codes, mtf_gauc


class Rows(NamedTuple):
    """Sorted by group: scores `[n, n_tasks]`, relevance `[n]` (high ranks high), group starts plus the end `[G + 1]`."""

    scores: Floats
    relevance: Floats
    groups: Ints


def labelled(log: LoggedDataset, tasks: Sequence[str], gains: Mapping[str, float], by: str = "user_id") -> Rows:
    """Relevance is the reward sum_k gains[k] * label_k; rows with an unobserved label are left out."""
    relevance = mtf_gauc(gains).row_gains(log.require([by]))
    return _sorted(log.take(relevance >= 0), tasks, relevance[relevance >= 0].astype(np.float64), by)


def distilled(log: LoggedDataset, tasks: Sequence[str], teachers: Sequence[FusionStrategy], by: str = "user_id") -> Rows:
    """Relevance is the mean of the teachers' final scores, each standardised within its group; no label is needed."""
    if not teachers:
        raise DataError("distillation needs at least one teacher")
    names = sorted({*tasks, *(task for teacher in teachers for task in teacher.requires)})
    rows = _sorted(log, names, np.zeros(len(log)), by)
    relevance = np.zeros(len(rows.relevance))
    for start, stop in zip(rows.groups[:-1], rows.groups[1:], strict=True):
        table = ScoreTable(tuple(names), rows.scores[start:stop])
        for teacher in teachers:
            final = teacher.fuse(table, {}).final
            spread = final.std()
            relevance[start:stop] += (final - final.mean()) / spread if spread > 0 else 0.0
    return Rows(rows.scores[:, [names.index(task) for task in tasks]], relevance / len(teachers), rows.groups)


def _sorted(log: LoggedDataset, tasks: Sequence[str], relevance: Floats, by: str) -> Rows:
    log.require([by, *(SCORE + task for task in tasks)])
    group, n_groups = codes(log[by])
    order = np.argsort(group, kind="stable")
    scores = np.stack([np.asarray(log[SCORE + task], dtype=np.float64) for task in tasks], axis=1)[order]
    if not np.isfinite(scores).all():
        raise DataError(f"scores of {', '.join(tasks)} must be finite; drop or fill the rows that are not")
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))]).astype(np.int64)
    return Rows(scores, relevance[order], starts)
