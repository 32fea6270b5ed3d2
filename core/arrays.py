"""Names for the arrays that walk through the house, and the one per-group metric that several rooms need."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]
Columns = Mapping[str, AnyArray]


def average_ranks(values: Floats) -> Floats:
    """Ranks from 1 (smallest), ties averaged.

    >>> average_ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    return segment_ranks(np.zeros(len(values), np.int64), values)


def segment_ranks(group: Ints, values: Floats) -> Floats:
    """Ranks from 1 within each group, ties averaged. Shapes: all `[n]`.

    >>> segment_ranks(np.array([0, 1, 0, 1]), np.array([5.0, 2.0, 4.0, 2.0])).tolist()
    [2.0, 1.5, 1.0, 1.5]
    """
    n = len(values)
    if n == 0:
        return np.zeros(0)
    order = np.lexsort((values, group))
    g, v = group[order], values[order]
    new_group = np.r_[True, g[1:] != g[:-1]]
    new_run = new_group | np.r_[True, v[1:] != v[:-1]]
    run_start = np.flatnonzero(new_run)
    run_length = np.diff(np.r_[run_start, n])
    group_start = np.maximum.accumulate(np.where(new_group, np.arange(n), 0))[run_start]
    mean_rank = run_start - group_start + (run_length + 1) / 2
    ranks = np.empty(n)
    ranks[order] = np.repeat(mean_rank, run_length)
    return ranks


def group_aucs(group: Ints, label: Bools, score: Floats) -> tuple[Ints, Ints, Floats]:
    """AUC of every group by the rank sum (Mann-Whitney), ties counted as one half.

    Args:
        group, label, score: `[n]` each.

    Returns:
        The groups in ascending order, their row counts, and their AUC, which is NaN where a group has one class only.

    >>> group_aucs(np.array([0, 0, 1]), np.array([True, False, True]), np.array([0.9, 0.1, 0.5]))[2].tolist()
    [1.0, nan]
    """
    groups, index = np.unique(group, return_inverse=True)
    positive = np.asarray(label, bool)
    ranks = segment_ranks(index.astype(np.int64), np.asarray(score, float))
    n = np.bincount(index, minlength=len(groups))
    n1 = np.bincount(index, weights=positive, minlength=len(groups))
    rank_sum = np.bincount(index, weights=ranks * positive, minlength=len(groups))
    pairs = n1 * (n - n1)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = np.where(pairs > 0, (rank_sum - n1 * (n1 + 1) / 2) / pairs, np.nan)
    return groups, n.astype(np.int64), auc


def auc(label: Bools, score: Floats) -> float:
    """Area under the ROC curve; NaN when one class is absent.

    >>> auc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    return float(group_aucs(np.zeros(len(label), np.int64), label, score)[2][0]) if len(label) else float("nan")


def gauc(group: Ints, label: Bools, score: Floats) -> tuple[float, int]:
    """AUC per group, weighted by the group's rows, over the groups that have both classes; with their number.

    GAUC as in Zhou et al. 2018 (DIN), impressions as weights.

    >>> gauc(np.array([0, 0, 1]), np.array([True, False, True]), np.array([0.9, 0.1, 0.5]))
    (1.0, 1)
    """
    _, n, aucs = group_aucs(group, label, score)
    eligible = ~np.isnan(aucs)
    if not eligible.any():
        return float("nan"), 0
    return float(np.average(aucs[eligible], weights=n[eligible])), int(eligible.sum())
