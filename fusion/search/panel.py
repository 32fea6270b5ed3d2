"""A log made ready for judging many formulas: rows sorted by user and request, labels turned into gains, once."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats, Ints
from core.errors import DataError
from core.logs import LoggedDataset
from fusion.search.kernel import AUC, FIELD_BITS, MAX_FIELDS, NDCG
from fusion.search.objective import Metric, Objective, codes

BLOCK_ROWS = 512  # a block of users fills at most this many rows, unless one user alone has more


class Panel:
    """A log and an objective.

    Attributes:
        log: The rows, sorted by user and request. users, requests: first row of each plus the end.
        measured: Indices of the objective's metrics that are not functions.
        eligible: `[M, U]` denominators: a user's weight, or how many of the user's lists count. multiplier: `[M, U]`
            what the kernel's per-user value is multiplied with before it is divided by the sum of `eligible`.

    Raises:
        DataError: The log is empty, lacks a column, or a metric can be computed for no user.
    """

    def __init__(self, log: LoggedDataset, objective: Objective) -> None:
        log.require(["user_id", *(label for metric in objective.metrics for label in metric.labels)])
        self.objective = objective
        self.measured = [i for i, metric in enumerate(objective.metrics) if metric.kind != "function"]
        metrics = [objective.metrics[i] for i in self.measured]
        lists = next((metric.by for metric in metrics if metric.kind == "ndcg"), "request_id")
        self.list_column = lists if lists in log or any(m.kind == "ndcg" for m in metrics) else "user_id"
        user, self.n_users = codes(log["user_id"])
        group, _ = codes(log[self.list_column])
        order = np.lexsort((group, user))
        user, group = user[order], group[order]
        self.log = log.take(order)
        self.users = _starts(user[1:] != user[:-1])
        self.requests = _starts((user[1:] != user[:-1]) | (group[1:] != group[:-1]))
        self.blocks, self.block_requests = _blocks(self.users, self.requests)
        self._measure(metrics, user)

    @property
    def n_rows(self) -> int:
        """Impressions."""
        return len(self.log)

    @property
    def user_ids(self) -> np.ndarray:
        """`[U]`, in the order of every per-user array."""
        return np.asarray(self.log["user_id"][self.users[:-1]])

    def _measure(self, metrics: list[Metric], user: Ints) -> None:
        n, n_metrics = len(user), len(metrics)
        self.request_ndcg = any(m.kind == "ndcg" for m in metrics) and self.list_column != "user_id"
        self.kinds = np.array([NDCG if m.kind == "ndcg" else AUC for m in metrics], dtype=np.int64)
        self.cut = np.array([m.k for m in metrics], dtype=np.int64)
        self.gains = np.empty((n, n_metrics), dtype=np.float32)
        n_groups = len(self.requests) - 1 if self.request_ndcg else self.n_users
        self.ideal = np.zeros((n_metrics, n_groups))
        self.eligible = np.zeros((n_metrics, self.n_users))
        self.multiplier = np.ones((n_metrics, self.n_users))
        for m, metric in enumerate(metrics):
            gain = metric.row_gains(self.log)
            self.gains[:, m] = gain
            if metric.kind == "ndcg":
                starts = self.requests if self.request_ndcg else self.users
                self.ideal[m] = _ideal(gain, starts, metric.k)
                owner = user[starts[:-1]]
                self.eligible[m] = np.bincount(owner, weights=self.ideal[m] > 0, minlength=self.n_users)
            else:
                self.eligible[m] = self.multiplier[m] = _user_weights(metric, gain, user, self.n_users)
            if self.eligible[m].sum() <= 0:
                what = "a positive" if metric.kind == "ndcg" else "both a positive and a negative"
                raise DataError(f"metric {metric.name!r}: no user has {what}; check {', '.join(metric.labels)} in the log")
        self.denominator = self.eligible.sum(axis=1)
        auc = self.kinds == AUC
        gained = np.where(auc, np.maximum(self.gains, 0.0), 0.0).astype(np.float64)
        self.positives = np.flatnonzero((gained > 0).any(axis=1)).astype(np.int64)
        self.positive_starts = np.searchsorted(self.positives, self.users).astype(np.int64)
        self.positive_gains = gained[self.positives]
        self.pairs = np.zeros((n_metrics, self.n_users))
        for m in np.flatnonzero(auc).tolist():
            n_negatives = np.bincount(user, weights=self.gains[:, m] == 0, minlength=self.n_users)
            self.pairs[m] = np.bincount(user, weights=gained[:, m], minlength=self.n_users) * n_negatives
        self.negatives = np.zeros(0, dtype=np.int64)
        if 0 < n_metrics <= MAX_FIELDS:
            self.negatives = ((self.gains == 0) @ np.where(auc, 1 << (FIELD_BITS * np.arange(n_metrics)), 0)).astype(np.int64)


def _starts(new: np.ndarray) -> Ints:
    return np.concatenate([[0], np.flatnonzero(new) + 1, [len(new) + 1]]).astype(np.int64)


def _blocks(users: Ints, requests: Ints) -> tuple[Ints, Ints]:
    """Users `[B + 1]` and requests `[B + 1]` where blocks of at most BLOCK_ROWS rows start (one user at least)."""
    first = [0]
    while first[-1] < len(users) - 1:
        here = first[-1]
        first.append(max(here + 1, int(np.searchsorted(users, users[here] + BLOCK_ROWS, side="right")) - 1))
    blocks = np.asarray(first, dtype=np.int64)
    return blocks, np.searchsorted(requests, users[blocks]).astype(np.int64)


def _user_weights(metric: Metric, gain: np.ndarray, user: Ints, n_users: int) -> Floats:
    positives = np.bincount(user, weights=gain > 0, minlength=n_users)
    negatives = np.bincount(user, weights=gain == 0, minlength=n_users)
    weight = {
        "impressions": positives + negatives,
        "positives": positives,
        "reward": np.bincount(user, weights=np.maximum(gain, 0), minlength=n_users),
        "one": np.ones(n_users),
    }[metric.user_weight]
    return np.where((positives > 0) & (negatives > 0), weight, 0.0).astype(np.float64)


def _ideal(gain: np.ndarray, starts: Ints, k: int) -> Floats:
    """DCG@k of the best order of each list; 0 for a list without a gain."""
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((-gain, group))
    place = np.arange(len(gain)) - starts[group]
    best = np.maximum(gain[order].astype(np.float64), 0.0)
    discounted = np.where(place < k, best / np.log2(place + 2.0), 0.0)
    return np.bincount(group, weights=discounted, minlength=len(starts) - 1).astype(np.float64)
