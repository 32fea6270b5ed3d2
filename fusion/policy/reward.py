"""The reward of a page: r = sum_i w_i v_i over groups of behaviours (stickiness, activeness), and a fit of the w_i."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Reward:
    """Groups of behaviours and what each is worth.

    A group's value v_i of a page is sum_t g_it n_t: the gain g_it of one occurrence (one second for times) of task t times how
    often it happened. The page's reward is sum_i w_i v_i.

    Args:
        groups: Gains by group and task, as in `{"stickiness": {"watch_s": 0.02}, "activeness": {"like": 0.3}}`.
        weights: w_i by group; 1 where it is not said.

    >>> reward = Reward({"stickiness": {"watch_s": 0.02}, "activeness": {"like": 0.5, "share": 1.0}}, {"activeness": 2.0})
    >>> total, parts = reward.of({"watch_s": np.array([100.0]), "like": np.array([1.0]), "share": np.array([0.0])})
    >>> total.tolist(), parts.tolist()
    ([3.0], [[2.0, 0.5]])
    """

    groups: Mapping[str, Mapping[str, float]]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.groups or not all(self.groups.values()):
            raise ConfigError(f"reward groups {dict(self.groups)} must each name a task with its gain")
        unknown = [name for name in self.weights if name not in self.groups]
        if unknown:
            raise ConfigError(f"reward weight {unknown[0]!r} has no group; groups are {', '.join(self.groups)}")
        numbers = [*self.weights.values(), *(gain for gains in self.groups.values() for gain in gains.values())]
        if not np.isfinite(numbers).all():
            raise ConfigError(f"reward gains and weights {numbers} must be finite")

    @property
    def names(self) -> tuple[str, ...]:
        """The groups."""
        return tuple(self.groups)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that is worth something, once."""
        return tuple(dict.fromkeys(task for gains in self.groups.values() for task in gains))

    @property
    def group_weights(self) -> Floats:
        """w_i `[n_groups]`."""
        return np.array([self.weights.get(name, 1.0) for name in self.groups])

    def of(self, counts: Mapping[str, AnyArray]) -> tuple[Floats32, Floats32]:
        """The reward `[n]` and its groups' values `[n, n_groups]` of pages with these counts (`[n]` by task).

        Raises:
            DataError: A task of the reward is not among the counts.
        """
        missing = [task for task in self.tasks if task not in counts]
        if missing:
            raise DataError(f"the reward reads task {missing[0]!r}; the log has {', '.join(counts)}")
        parts = np.stack(
            [
                sum((gain * np.asarray(counts[task], float) for task, gain in gains.items()), 0.0)
                for gains in self.groups.values()
            ],
            axis=1,
        ).astype(np.float32)
        return (parts @ self.group_weights).astype(np.float32), parts

    def gains(self) -> dict[str, float]:
        """What one occurrence of each task adds to the reward, over all groups.

        >>> Reward({"a": {"like": 1.0}, "b": {"like": 0.5}}, {"b": 2.0}).gains()
        {'like': 2.0}
        """
        weights = dict(zip(self.groups, self.group_weights.tolist(), strict=True))
        return {task: sum(weights[name] * gains.get(task, 0.0) for name, gains in self.groups.items()) for task in self.tasks}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"groups": {name: dict(gains) for name, gains in self.groups.items()}, "weights": dict(self.weights)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(value["groups"], value.get("weights", {}))


@dataclass(frozen=True, slots=True)
class FittedWeights:
    """Weights w_i `[n_groups]` that sum to 1, their 95 % interval over users, and the slopes they come from."""

    names: tuple[str, ...]
    weights: Floats
    low: Floats
    high: Floats
    slopes: Floats
    n_sessions: int
    n_users: int

    def as_dict(self) -> dict[str, float]:
        """Weights by group, for `Reward.weights`."""
        return dict(zip(self.names, self.weights.tolist(), strict=True))


def future(user: AnyArray, time: AnyArray, value: AnyArray, *, n_next: int = 3) -> Floats:
    """The sum of `value` over the user's next `n_next` sessions, NaN where fewer follow: an outcome for `fit_weights`.

    Args:
        user, time, value: `[n_sessions]`: whose it was, when it began, and its dwell time, say.

    >>> future(np.array([1, 1, 2, 1]), np.array([10, 30, 10, 20]), np.array([1.0, 4.0, 9.0, 2.0]), n_next=1).tolist()
    [2.0, nan, nan, 4.0]
    """
    order = np.lexsort([time, user])
    owner, total = np.asarray(user)[order], np.cumsum(np.asarray(value, float)[order])
    last = np.arange(len(order)) + n_next
    there = np.flatnonzero(last < len(order))
    there = there[owner[last[there]] == owner[there]]
    found = np.full(len(order), np.nan)
    found[order[there]] = total[last[there]] - total[there]
    return found


def fit_weights(
    values: AnyArray, outcome: AnyArray, user: AnyArray, *, names: tuple[str, ...], n_bootstrap: int = 200, seed: int = 0
) -> FittedWeights:
    """The w_i that explain what came after a session: non-negative least squares within users.

    A user who likes much and stays long anyway says nothing about what a like does; so both sides are taken as differences
    from the user's own mean over sessions, and users with one session play no part.

    Args:
        values: `[n_sessions, n_groups]`, a session's group totals.
        outcome: `[n_sessions]`, what the reward should stand for: dwell time over the next days, or return (1 or 0, or minus the
            days away).
        user: `[n_sessions]`.

    Raises:
        DataError: No user has two sessions, or no group has a positive effect.
    """
    v, y = np.asarray(values, float), np.asarray(outcome, float)
    if v.ndim != 2 or v.shape != (len(y), len(names)) or not (np.isfinite(v).all() and np.isfinite(y).all()):
        raise DataError(f"values of shape {v.shape} must be [{len(y)}, {len(names)}] finite numbers, one row a session")
    _, index, sizes = np.unique(user, return_inverse=True, return_counts=True)
    n_users = len(sizes)
    if not (sizes > 1).any():
        raise DataError(f"{len(y)} sessions of {n_users} users: no user has two; reward weights need sessions of the same user")
    dv = v - np.stack([np.bincount(index, v[:, i]) / sizes for i in range(v.shape[1])], 1)[index]
    dy = y - (np.bincount(index, y) / sizes)[index]
    k = v.shape[1]
    grams, moments = np.zeros((n_users, k, k)), np.zeros((n_users, k))
    np.add.at(grams, index, dv[:, :, None] * dv[:, None, :])
    np.add.at(moments, index, dv * dy[:, None])
    slopes = _slopes(grams.sum(0), moments.sum(0))
    if not slopes.sum() > 0:
        raise DataError(f"no group of {', '.join(names)} goes with a larger outcome; take another outcome or set weights by hand")
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(n_bootstrap):
        times = rng.multinomial(n_users, np.full(n_users, 1 / n_users)).astype(float)
        again = _slopes(np.tensordot(times, grams, 1), times @ moments)
        if again.sum() > 0:
            drawn.append(again / again.sum())
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if drawn else np.full((2, k), np.nan)
    return FittedWeights(names, slopes / slopes.sum(), low, high, slopes, len(y), n_users)


def _slopes(gram: Floats, moment: Floats) -> Floats:
    """min |v w - y|^2 over w >= 0 from v'v and v'y."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-12))
    root = np.linalg.cholesky(gram / np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
    slopes: Floats = nnls(root.T, np.linalg.solve(root, moment / scale))[0] / scale
    return slopes
