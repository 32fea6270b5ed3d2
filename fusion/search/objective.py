"""What a search maximises: a weighted sum of GAUC, MTF-GAUC and NDCG@K over logged impressions, or a user's function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Floats32
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset

Kind = Literal["gauc", "mtf_gauc", "ndcg", "function"]
UserWeight = Literal["impressions", "positives", "reward", "one"]
USER_WEIGHTS: Final = ("impressions", "positives", "reward", "one")
Function: TypeAlias = Callable[[Floats, LoggedDataset], float]  # finals [n] and the log they belong to


@dataclass(frozen=True)
class Metric:
    """One term of an objective; make it by `gauc`, `mtf_gauc`, `ndcg` or `function`.

    Args:
        name: How results call it.
        kind: See the four makers.
        weight: Its factor in the objective; negative for what should rank low.
        gains: Reward by label column.
        valid: Label columns that make an impression a positive.
        user_weight: w(u) of the mean over users.
        k, by: NDCG's cut-off, and the column whose values are its lists.
    """

    name: str
    kind: Kind
    weight: float = 1.0
    gains: Mapping[str, float] = field(default_factory=dict)
    valid: tuple[str, ...] = ()
    user_weight: UserWeight = "impressions"
    k: int = 10
    by: str = "user_id"
    call: Function | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.weight):
            raise ConfigError(f"metric {self.name!r}: weight {self.weight} must be finite")
        if self.user_weight not in USER_WEIGHTS:
            raise ConfigError(f"metric {self.name!r}: user_weight {self.user_weight!r} is not one of {', '.join(USER_WEIGHTS)}")
        if self.kind == "ndcg" and self.k < 1:
            raise ConfigError(f"metric {self.name!r}: k {self.k} must be at least 1")
        if self.kind != "function" and (not self.gains or not all(g >= 0 and np.isfinite(g) for g in self.gains.values())):
            raise ConfigError(f"metric {self.name!r}: gains {dict(self.gains)} must name labels, with gains of at least 0")

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns it reads."""
        return tuple(dict.fromkeys((*self.gains, *self.valid)))

    def row_gains(self, log: LoggedDataset) -> Floats32:
        """`[n]`: the reward of a positive, 0 of a negative, -1 where a label was not observed."""
        columns = {label: np.asarray(log[label], dtype=np.float64) for label in self.labels}
        seen: Bools = np.logical_and.reduce([np.isfinite(c) for c in columns.values()])
        reward: Floats = np.sum([self.gains.get(label, 0.0) * c for label, c in columns.items()], axis=0)
        if self.kind == "gauc":
            odd = reward[seen & (reward != 0) & (reward != 1)]
            if len(odd):
                raise DataError(f"metric {self.name!r}: label {odd[0]:g} is not 0 or 1; use mtf_gauc or ndcg for graded labels")
        if self.kind == "mtf_gauc":
            valid = np.any([columns[label] > 0 for label in self.valid], axis=0)
            reward = np.where(valid, reward, 0.0)
            if (reward[seen & valid] <= 0).any():
                raise DataError(f"metric {self.name!r}: a valid impression has reward 0; give every valid label a gain above 0")
        if (reward[seen] < 0).any():
            raise DataError(f"metric {self.name!r}: a negative reward; labels under {', '.join(self.labels)} must not be below 0")
        return np.where(seen, reward, -1.0).astype(np.float32)


def gauc(label: str, weight: float = 1.0) -> Metric:
    """Mean over users, weighted by impressions, of the AUC of the final score for one 0/1 label."""
    return Metric(f"gauc_{label}", "gauc", weight, {label: 1.0}, (label,))


def mtf_gauc(
    gains: Mapping[str, float],
    valid: Sequence[str] | None = None,
    *,
    user_weight: UserWeight = "impressions",
    weight: float = 1.0,
    name: str = "mtf_gauc",
) -> Metric:
    """sum_u w(u) WeightedAUC(u) / sum_u w(u), after UnifiedRL's multi-task-fusion GAUC.

    Args:
        gains: The reward of an impression is sum_k gains[k] * label_k.
        valid: An impression is a positive when one of these labels is above 0 (all of `gains` by default);
            a positive counts with its reward, a negative with 1. Users with one class are left out.
        user_weight: w(u): `impressions` (observed rows), `positives`, `reward` (their sum) or `one`.
    """
    return Metric(name, "mtf_gauc", weight, dict(gains), tuple(valid if valid is not None else gains), user_weight)


def ndcg(gains: str | Mapping[str, float], k: int = 10, *, by: str = "request_id", weight: float = 1.0) -> Metric:
    """Mean NDCG@k over the lists of column `by` that hold a gain; ties share the discounts of their places."""
    own = {gains: 1.0} if isinstance(gains, str) else dict(gains)
    return Metric(f"ndcg{k}_{'_'.join(own)}", "ndcg", weight, own, k=k, by=by)


def function(name: str, call: Function, weight: float = 1.0) -> Metric:
    """A function of the final scores and the log; evaluated one vector at a time, without user intervals."""
    return Metric(name, "function", weight, call=call)


@dataclass(frozen=True)
class Objective:
    """sum of weight times metric; higher is better.

    >>> Objective([gauc("click", 0.7), gauc("like", 0.3)]).names
    ('gauc_click', 'gauc_like')
    """

    metrics: Sequence[Metric]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ConfigError("an objective needs at least one metric")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(f"metric names {', '.join(self.names)} must differ; give name= to one of them")
        if len({m.by for m in self.metrics if m.kind == "ndcg"}) > 1:
            raise ConfigError("all NDCG metrics of an objective must share one list column (by=)")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def weights(self) -> Floats:
        """The metrics' weights `[M]`."""
        return np.array([metric.weight for metric in self.metrics])

    def value(self, terms: Floats) -> Floats:
        """`[..., M]` metric values to `[...]` objective values."""
        return np.asarray(terms @ self.weights)

    def signed(self, terms: Floats) -> Floats:
        """`[..., M]` metric values turned so that higher is better in each, also where the weight is 0: that is only watched."""
        return np.asarray(terms * np.where(self.weights < 0, -1.0, 1.0))

    def to_json(self) -> list[dict[str, Any]]:
        """The metrics as JSON values; a function by its name only."""
        return [
            {"name": m.name, "kind": m.kind, "weight": m.weight, "gains": dict(m.gains), "valid": list(m.valid)}
            | ({"k": m.k, "by": m.by} if m.kind == "ndcg" else {"user_weight": m.user_weight})
            for m in self.metrics
        ]


def codes(values: AnyArray) -> tuple[AnyArray, int]:
    """Any column of ids as integers from 0, and how many there are."""
    if values.dtype.kind == "O":
        values = values.astype(str)
    unique, index = np.unique(values, return_inverse=True)
    return index.astype(np.int64), len(unique)
