"""What sessions came to: return, pages, clicks and days away of a policy, per session, with paired intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError
from simulator.env import SessionEnv
from simulator.policies import Action, Policy
from simulator.rollout import Rank, Recommend, run_sessions
from simulator.session import Page, Sessions


@dataclass(frozen=True, slots=True)
class Judged:
    """One row per session `[n_sessions]`, in the order of sessions: two policies on one seed are paired by session."""

    session_return: Floats
    pages: Floats
    clicks: Floats
    days_away: Floats

    @property
    def clicks_per_page(self) -> float:
        """All clicks over all pages."""
        return float(self.clicks.sum() / self.pages.sum())


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def judge(
    env: SessionEnv,
    policy: Policy | None = None,
    *,
    n_sessions: int,
    seed: int,
    recommend: Recommend | None = None,
    rank: Rank | None = None,
) -> Judged:
    """Run sessions 0 .. n_sessions - 1 of the seed and add them up; see `rollout` for the arguments."""
    return _judge(env, n_sessions, n_sessions, seed, policy=policy, recommend=recommend, rank=rank)[0]


def judge_constants(env: SessionEnv, actions: AnyArray, *, n_sessions: int, seed: int) -> list[Judged]:
    """Each of the constant actions `[m, n_params]` on the same sessions 0 .. n_sessions - 1, all in one run: what `judge` finds
    one by one, sooner, because slots wait for the longest session once instead of `m` times."""
    tries = np.asarray(actions, np.float32)

    def rank(sessions: Sessions) -> Floats32:
        chosen = tries[np.minimum(sessions.session // n_sessions, len(tries) - 1)]
        return env.fuse(env.weights(chosen), sessions.scores)

    return _judge(env, n_sessions * len(tries), n_sessions, seed, rank=rank)


def _judge(
    env: SessionEnv,
    total: int,
    n_sessions: int,
    seed: int,
    *,
    policy: Policy | None = None,
    recommend: Recommend | None = None,
    rank: Rank | None = None,
) -> list[Judged]:
    totals = np.zeros((4, total))

    def record(page: Page, final: Floats32, action: Action, keep: AnyArray) -> None:
        session = env.sessions.session[keep]
        totals[0, session] += page.reward[keep]
        totals[1, session] += 1
        totals[2, session] += page.counts[keep, 0]
        totals[3, session] = page.days_away[keep]

    run_sessions(env, record, policy=policy, recommend=recommend, rank=rank, n_sessions=total, seed=seed, again=n_sessions)
    return [Judged(*part) for part in np.split(totals, total // n_sessions, axis=1)]


def interval(values: Floats) -> Interval:
    """Mean and normal interval of independent values; paired differences are `interval(a - b)`.

    >>> print(interval(np.array([1.0, 2.0, 3.0])))
    2.000 [0.868, 3.132]
    """
    if len(values) < 2:
        raise ConfigError(f"{len(values)} values have no interval; give at least 2")
    mean, half = float(values.mean()), float(1.959964 * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def ratio_interval(top: Floats, bottom: Floats) -> Interval:
    """The ratio of two paired means by the delta method."""
    ratio = float(top.mean() / bottom.mean())
    spread = interval((top - ratio * bottom) / bottom.mean())
    return Interval(ratio, ratio + spread.low - spread.mean, ratio + spread.high - spread.mean)
