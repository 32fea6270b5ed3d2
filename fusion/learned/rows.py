"""What learned fusions learn from: groups of scores within which items compete, and the pairs to get right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from core.arrays import Floats, Ints
from core.errors import DataError
from core.events import SCORE
from core.logs import LoggedDataset
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.formula_strategy import FormulaStrategy
from fusion.fused import FusionStrategy
from fusion.learned.base import LearnedStrategy
from fusion.learned.inputs import Inputs
from fusion.search.objective import codes, mtf_gauc

ALL_PAIRS_UP_TO = 24  # rows of a group; larger groups draw so many partners a row


class Rows(NamedTuple):
    """Sorted by group: x `[n, T]` scores, s `[n, C]` context, relevance `[n]` (high is good), groups `[G + 1]` starts and end."""

    x: Floats
    s: Floats
    relevance: Floats
    groups: Ints


class Pairs(NamedTuple):
    """Rows that should rank above others: better, worse `[P]` row numbers, weight `[P]`."""

    better: Ints
    worse: Ints
    weight: Floats


def labelled(
    log: LoggedDataset, inputs: Inputs, gains: Mapping[str, float], by: str = "user_id", calibration: Calibration | None = None
) -> Rows:
    """Relevance is the reward sum_k gains[k] * label_k; rows with an unobserved label are left out."""
    relevance = mtf_gauc(gains).row_gains(log.require([by]))
    return _sorted(log.take(relevance >= 0), inputs, relevance[relevance >= 0].astype(np.float64), by, calibration)


def distilled(
    log: LoggedDataset,
    inputs: Inputs,
    teachers: Sequence[FusionStrategy],
    by: str = "user_id",
    calibration: Calibration | None = None,
) -> Rows:
    """Relevance is the mean of the teachers' final scores, each standardised within its group; no label is needed."""
    if not teachers:
        raise DataError("distillation needs at least one teacher")
    group, n_groups = codes(log.require([by])[by])
    relevance = np.zeros(len(log))
    size = np.bincount(group, minlength=n_groups)
    for teacher in teachers:
        final = final_scores(teacher, log, by)
        final = final - (np.bincount(group, final, n_groups) / size)[group]
        spread = np.sqrt(np.bincount(group, final**2, n_groups) / size)[group]
        relevance += np.divide(final, spread, out=np.zeros_like(final), where=spread > 1e-12)
    return _sorted(log, inputs, relevance / len(teachers), by, calibration)


def final_scores(strategy: FusionStrategy, log: LoggedDataset, by: str = "user_id") -> Floats:
    """A strategy's final scores `[n]` of a log's rows. A rank or z-score in a formula is taken within each value of `by`, and a
    context name is read from the column of that name, in the first row of the group."""
    if isinstance(strategy, LearnedStrategy):
        return strategy.on_log(log)
    if isinstance(strategy, FormulaStrategy):
        return _formula_scores(strategy, log, by)
    tasks = tuple(sorted(strategy.requires))
    log.require([by, *(SCORE + task for task in tasks)])
    values = np.stack([np.asarray(log[SCORE + task], dtype=np.float64) for task in tasks], axis=1)
    group, n_groups = codes(log[by])
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=n_groups))
    plain = [name for name in log if log[name].ndim == 1]
    final = np.empty(len(log))
    for rows in np.split(order, ends[:-1]):
        context = {name: log[name][rows[0]] for name in plain}
        final[rows] = strategy.fuse(ScoreTable(tasks, values[rows]), context).final
    return final


def _formula_scores(strategy: FormulaStrategy, log: LoggedDataset, by: str) -> Floats:
    """All groups at once."""
    formula, own = strategy.formula, log if strategy.calibration is None else strategy.calibration.apply_log(log)
    own.require([by, *(SCORE + task for task in formula.tasks), *formula.context])
    group, n_groups = codes(own[by])
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))]).astype(np.int64)
    columns = {task: np.asarray(own[SCORE + task], dtype=np.float64)[order] for task in formula.tasks}
    context = {name: np.asarray(own[name], dtype=np.float64)[order] for name in formula.context}
    final = np.empty(len(own))
    final[order] = formula.final(columns, strategy.weights, context, starts).values
    return final


def pairs(rows: Rows, seed: int = 0) -> Pairs:
    """Pairs of one group whose relevance differs, weighted by it; a group with pairs weighs as many as it has rows.

    So the weighted share of pairs in the right order is, for one kind of reward, the MTF-GAUC with impressions as user weights.

    Raises:
        DataError: There is no such pair, so there is nothing to learn.
    """
    n, rng = len(rows.relevance), np.random.default_rng(seed)
    size = np.diff(rows.groups)
    group = np.repeat(np.arange(len(size)), size)
    start, own = rows.groups[:-1][group], size[group]
    left, right = [], []
    for step in range(1, min(int(size.max(initial=0)), ALL_PAIRS_UP_TO)):
        partner = np.arange(n) + step  # small groups: every pair once
        near = (own <= ALL_PAIRS_UP_TO) & (partner < start + own)
        left.append(np.flatnonzero(near))
        right.append(partner[near])
    large = np.flatnonzero(own > ALL_PAIRS_UP_TO)
    for _ in range(ALL_PAIRS_UP_TO // 2 if len(large) else 0):
        left.append(large)
        right.append(start[large] + rng.integers(0, own[large]))
    a, b = (np.concatenate([*side, np.zeros(0, np.int64)]).astype(np.int64) for side in (left, right))
    gap = rows.relevance[a] - rows.relevance[b]
    a, b, gap = a[gap != 0], b[gap != 0], gap[gap != 0]
    if not len(a):
        raise DataError("no group holds two rows of different relevance; there is nothing to learn")
    total = np.bincount(group[a], np.abs(gap), len(size))
    weight = np.abs(gap) * size[group[a]] / total[group[a]]
    return Pairs(np.where(gap > 0, a, b), np.where(gap > 0, b, a), weight)


def _sorted(log: LoggedDataset, inputs: Inputs, relevance: Floats, by: str, calibration: Calibration | None) -> Rows:
    group, n_groups = codes(log.require([by])[by])
    order = np.argsort(group, kind="stable")
    x, s = inputs.rows(calibration.apply_log(log) if calibration is not None else log)
    starts = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=n_groups))]).astype(np.int64)
    return Rows(x[order], s[order], relevance[order], starts)
