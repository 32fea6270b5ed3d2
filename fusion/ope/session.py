"""Off-policy estimators for whole sessions: trajectory IS, per-decision IS, capped self-normalised IS and sequential DR.

A session `i` has steps `t = 0, 1, ...` with rewards `r_it` and ratios `rho_it = pi(a_it|s_it) / pi_0(a_it|s_it)`; rows are in
the order of sessions and steps. `W_it` is the product of the session's ratios up to and including step `t`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.arrays import Floats, Ints
from core.errors import DataError
from fusion.ope.bandit import Moments


@dataclass(frozen=True, slots=True)
class Steps:
    """Logged steps, session by session.

    Attributes:
        reward, ratio: `[n]`.
        first: `[S]`, the row where each session begins, ascending from 0; its rows run to the next session's first.
        gamma: Discount per step; 1 estimates the plain sum of a session's rewards.
        q_logged: `[n]`, a model's `Q(s, a)` of the logged actions; zeros without a model.
        v_target: `[n]`, the model's `E_{a ~ pi} Q(s, a)`.
    """

    reward: Floats
    ratio: Floats
    first: Ints
    gamma: float = 1.0
    q_logged: Floats | None = None
    v_target: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.reward)
        if self.ratio.shape != (n,):
            raise DataError(f"ratio has shape {self.ratio.shape}; it must be [{n}] like reward")
        if len(self.first) == 0 or self.first[0] != 0 or (np.diff(self.first) < 1).any() or self.first[-1] >= n:
            raise DataError("first must hold ascending rows from 0, each session at least one row")
        if not 0 < self.gamma <= 1:
            raise DataError(f"gamma {self.gamma} must lie in (0, 1]")

    @property
    def step(self) -> Ints:
        """Steps since the session's beginning, `[n]`."""
        return step_numbers(self.first, len(self.reward))

    @property
    def discount(self) -> Floats:
        """`gamma ** t`, `[n]`."""
        return np.asarray(self.gamma ** self.step.astype(np.float64))

    @property
    def product(self) -> Floats:
        """`W_it`: the product of the ratios up to and including each step, `[n]`; 0 after a ratio of 0."""
        return running_product(self.ratio, self.first)

    @property
    def before(self) -> Floats:
        """`W_i,t-1`: the product of the ratios up to the step before, 1 on a session's first, `[n]`."""
        before: Floats = np.r_[1.0, self.product[:-1]]
        before[self.first] = 1.0
        return before

    def total(self, values: Floats) -> Floats:
        """Sum over each session's rows, `[S]`."""
        summed: Floats = np.add.reduceat(values, self.first)
        return summed

    @property
    def weight(self) -> Floats:
        """The weight of each whole session, `[S]`."""
        last = np.r_[self.first[1:], len(self.reward)] - 1
        whole: Floats = self.product[last]
        return whole

    @property
    def session_return(self) -> Floats:
        """`R_i = sum_t gamma^t r_it`, `[S]`."""
        return self.total(self.discount * self.reward)


def trajectory_is(s: Steps) -> Moments:
    """Trajectory importance sampling: `V = mean_i W_i R_i`. Unbiased; its variance grows exponentially with the session's length
    (Precup, Sutton & Singh 2000).

    >>> trajectory_is(Steps(np.array([1.0, 1.0, 4.0]), np.array([2.0, 0.5, 0.5]), np.array([0, 2]))).value
    2.0
    """
    w = s.weight
    return Moments((w * s.session_return)[:, None], lambda m: m[..., 0], w)


def pdis(s: Steps) -> Moments:
    """Per-decision importance sampling: `V = mean_i sum_t gamma^t W_it r_it`: a reward is weighted by what led to it only.
    Unbiased (Precup, Sutton & Singh 2000).

    >>> pdis(Steps(np.array([1.0, 1.0, 4.0]), np.array([2.0, 0.5, 0.5]), np.array([0, 2]))).value
    2.5
    """
    return Moments(s.total(s.discount * s.product * s.reward)[:, None], lambda m: m[..., 0], s.weight)


def ncis(s: Steps, *, cap: float = 10.0) -> Moments:
    """Capped, self-normalised importance sampling: `V = sum_i min(c, W_i) R_i / sum_i min(c, W_i)`. Biased towards the logging
    policy as c falls (Swaminathan & Joachims 2015; used for BatchRL-MTF, Zhang et al. 2022).

    >>> ncis(Steps(np.array([1.0, 3.0]), np.array([9.0, 1.0]), np.array([0, 1])), cap=3.0).value
    1.5
    """
    w = np.minimum(s.weight, cap)
    capped = int((s.weight > cap).sum())
    return Moments(np.stack([w * s.session_return, w], 1), lambda m: m[..., 0] / m[..., 1], w, capped)


def session_dr(s: Steps) -> Moments:
    """Sequential doubly robust: `V = mean_i sum_t gamma^t [W_it (r_it - Q(s_it, a_it)) + W_i,t-1 V(s_it)]`, `W_i,-1 = 1`.
    Unbiased for right propensities and a Q fitted on other users' sessions (Jiang & Li 2016).

    >>> zero = np.zeros(3)
    >>> session_dr(Steps(np.array([1.0, 1.0, 4.0]), np.array([2.0, 0.5, 0.5]), np.array([0, 2]), 1.0, zero, zero)).value
    2.5
    """
    if s.q_logged is None or s.v_target is None:
        raise DataError("the doubly robust estimate needs a model: q_logged and v_target")
    gain = s.product * (s.reward - s.q_logged) + s.before * s.v_target
    return Moments(s.total(s.discount * gain)[:, None], lambda m: m[..., 0], s.weight)


SESSION: Final[Mapping[str, Callable[[Steps], Moments]]] = {
    "is": trajectory_is,
    "pdis": pdis,
    "ncis": ncis,
    "session_dr": session_dr,
}
CAPS: Final = (1.0, 3.0, 10.0, 30.0, 100.0)


def cap_sweep(s: Steps, caps: tuple[float, ...] = CAPS) -> dict[float, Moments]:
    """NCIS at each cap: where the values settle before the effective sample size collapses is the reader's to judge."""
    return {cap: ncis(s, cap=cap) for cap in caps}


def step_numbers(first: Ints, n: int) -> Ints:
    """Steps since the beginning of each row's session.

    >>> step_numbers(np.array([0, 2]), 5).tolist()
    [0, 1, 0, 1, 2]
    """
    lengths = np.diff(np.r_[first, n])
    numbers: Ints = np.arange(n) - np.repeat(first, lengths)
    return numbers


def running_product(ratio: Floats, first: Ints) -> Floats:
    """Products within each session up to each row, exactly 1 where every ratio is 1.

    >>> running_product(np.array([2.0, 3.0, 5.0, 0.0, 7.0]), np.array([0, 2])).tolist()
    [2.0, 6.0, 5.0, 0.0, 0.0]
    """
    product = np.array(ratio, np.float64)
    step = step_numbers(first, len(ratio))
    for t in range(1, int(step.max(initial=0)) + 1):
        rows = np.flatnonzero(step == t)
        product[rows] *= product[rows - 1]
    return product
