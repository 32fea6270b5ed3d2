"""Whole logged sessions, checked: what every session estimator reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Floats32, Ints
from core.errors import DataError
from fusion.ope.session import step_numbers

GAP_SHARE: Final = 0.01  # up to this share of sessions with gaps is left out and counted; above it nothing is estimated
_SLACK: Final = 1e-4  # float32 actions may pass a bound by rounding


class Table(Protocol):
    """The columns of a transition table that estimates need; `fusion.policy.transitions.Transitions` has them."""

    @property
    def obs(self) -> Floats32: ...
    @property
    def next_obs(self) -> Floats32: ...
    @property
    def action(self) -> Floats32: ...
    @property
    def reward(self) -> Floats32: ...
    @property
    def truncated(self) -> Bools: ...
    @property
    def propensity(self) -> Floats: ...
    @property
    def session(self) -> Ints: ...
    @property
    def step(self) -> AnyArray: ...
    @property
    def user(self) -> AnyArray: ...
    @property
    def candidate_scores(self) -> AnyArray | None: ...
    @property
    def position_rewards(self) -> Floats32 | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """Sessions in order, each with its pages 0, 1, 2 ...

    Attributes:
        obs, next_obs: `[n, n_obs]`. action: `[n, n_params]` in [-1, 1]. reward, propensity: `[n]` (propensity NaN: unknown).
        truncated: `[n]`, the session was cut after this page. user: `[n]`, any labels.
        first: `[S]`, each session's first row.
        scores: `[n, N, n_tasks]`, what the ranker said of every candidate, or None.
        position_rewards: `[n, k]`, the part of the reward that came from the item at each position, or None.
        n_gaps: Sessions left out because pages were missing.
    """

    obs: Floats32
    next_obs: Floats32
    action: Floats32
    reward: Floats
    propensity: Floats
    truncated: Bools
    user: AnyArray
    first: Ints
    scores: AnyArray | None = None
    position_rewards: Floats32 | None = None
    n_gaps: int = 0

    @classmethod
    def from_table(cls, table: Table) -> Self:
        """Sorted and checked sessions of a transition table.

        Raises:
            DataError: The table is empty, has non-finite values, an action outside [-1, 1], or more than 1 % of its sessions
                lack pages.
        """
        n = len(table.reward)
        if n == 0:
            raise DataError("the log holds no pages; nothing can be estimated from it")
        order = np.lexsort((table.step, table.session))
        session, step = np.asarray(table.session)[order], np.asarray(table.step)[order]
        first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
        holes = np.add.reduceat((step != step_numbers(first, n)).astype(np.int64), first) > 0
        if holes.mean() > GAP_SHARE:
            raise DataError(
                f"{int(holes.sum())} of {len(first)} sessions lack pages (their steps are not 0, 1, 2 ...); at most"
                f" {GAP_SHARE:.0%} may be left out: log every page of a session, or build the table with"
                " Transitions.from_log(gaps='drop')"
            )
        if holes.any():
            keep = ~np.repeat(holes, np.diff(np.r_[first, n]))
            order, session = order[keep], session[keep]
            first = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
        straight = np.array_equal(order, np.arange(n))

        def column(values: AnyArray) -> AnyArray:
            return values if straight else np.asarray(values)[order]

        found = cls(
            obs=np.array(column(table.obs)),  # a copy: memory maps may not be writable, which networks want
            next_obs=column(table.next_obs),
            action=column(table.action),
            reward=column(table.reward).astype(np.float64),
            propensity=column(table.propensity).astype(np.float64),
            truncated=column(table.truncated),
            user=column(np.asarray(table.user)),
            first=first,
            scores=None if table.candidate_scores is None else column(table.candidate_scores),
            position_rewards=None if table.position_rewards is None else column(table.position_rewards),
            n_gaps=int(holes.sum()),
        )
        found._check()
        return found

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def n_sessions(self) -> int:
        """How many sessions there are."""
        return len(self.first)

    @property
    def last(self) -> Ints:
        """Each session's last row, `[S]`."""
        last: Ints = np.r_[self.first[1:], len(self)] - 1
        return last

    @property
    def session(self) -> Ints:
        """The number of each row's session, `[n]` from 0."""
        return np.repeat(np.arange(self.n_sessions), np.diff(np.r_[self.first, len(self)]))

    @property
    def has_propensity(self) -> bool:
        """Whether every page says with what density its action was drawn."""
        return bool((np.isfinite(self.propensity) & (self.propensity > 0)).all())

    def take(self, sessions: Ints) -> Self:
        """Some sessions, in the order given."""
        lengths = np.diff(np.r_[self.first, len(self)])[sessions]
        first = np.r_[0, np.cumsum(lengths)[:-1]]
        rows = np.repeat(self.first[sessions] - first, lengths) + np.arange(int(lengths.sum()))
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _COLUMNS},
            first=first,
            scores=None if self.scores is None else self.scores[rows],
            position_rewards=None if self.position_rewards is None else self.position_rewards[rows],
        )

    def pages(self) -> Self:
        """Every page as a session of its own, a single decision; users stay together."""
        return replace(self, first=np.arange(len(self)), truncated=np.zeros(len(self), bool))

    def _check(self) -> None:
        for name in ("obs", "reward", "action"):
            if not np.isfinite(getattr(self, name)).all():
                raise DataError(f"{name} holds NaN or infinite values; every page needs its state, action and reward")
        worst = float(np.abs(self.action).max(initial=0.0))
        if worst > 1 + _SLACK:
            raise DataError(
                f"a logged action is {worst:.4g}; actions must lie in [-1, 1]: map the formula's weights by their declared"
                " ranges first"
            )


_COLUMNS: Final = ("obs", "next_obs", "action", "reward", "propensity", "truncated", "user")
