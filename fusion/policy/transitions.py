"""The transition table: one row a page of a session, as columns that may be memory maps larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from core.arrays import AnyArray, Bools, Columns, Floats, Floats32, Ints
from core.errors import DataError
from core.events import AT
from fusion.policy import mapped
from fusion.policy.reward import Reward

Gaps = Literal["error", "drop"]
_SLACK = 1e-4  # float32 actions may touch a bound from outside


@dataclass(frozen=True, slots=True, eq=False)
class Transitions:
    """Pages of sessions, sorted by session and step.

    Args:
        obs, next_obs: `[n, n_obs]` float32. Of a session's last page `next_obs` is a stand-in (see where the table was made).
        action: `[n, n_params]` float32 in [-1, 1]; -1 and 1 stand for `low` and `high`.
        reward: `[n]` float32, `rewards @ group_weights`.
        rewards: `[n, n_groups]` float32, the values of the reward's groups.
        terminated: `[n]`: the user left. truncated: `[n]`: the session was cut here, so its value goes on (bootstraps).
        propensity: `[n]` float64, density of `action` under the logging mixture, NaN where unknown.
        baseline, next_baseline: `[n, n_params]` float32, what the logging policy would have done at `obs` and `next_obs` without
            exploring; NaN where unknown.
        box: `[n]` float32, half the width of the box around `baseline` within which actions were drawn; NaN without a box.
        session, user: `[n]` int64. step: `[n]` int32, from 0.
        candidates: `[n, N]` item ids. candidate_scores: `[n, N, n_tasks]` float16, in the order of `task_names`.
        slate: `[n, k]` item ids shown, best first.
        position_rewards: `[n, k]` float32, the part of `reward` that came from the item at each position, best first; what no
            item is known for is in `reward` alone.
        time_ms: `[n]` int64, when the page was shown.
    """

    obs: Floats32
    action: Floats32
    reward: Floats32
    rewards: Floats32
    next_obs: Floats32
    terminated: Bools
    truncated: Bools
    propensity: Floats
    baseline: Floats32
    next_baseline: Floats32
    box: Floats32
    session: Ints
    step: AnyArray
    user: Ints
    param_names: tuple[str, ...]
    obs_names: tuple[str, ...]
    low: Floats32
    high: Floats32
    group_names: tuple[str, ...]
    group_weights: Floats
    candidates: Ints | None = None
    candidate_scores: AnyArray | None = None
    slate: Ints | None = None
    position_rewards: Floats32 | None = None
    time_ms: Ints | None = None
    task_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, p, o, g = len(self.reward), len(self.param_names), len(self.obs_names), len(self.group_names)
        wanted = {"obs": (n, o), "next_obs": (n, o), "rewards": (n, g), "low": (p,), "high": (p,), "group_weights": (g,)}
        wanted |= dict.fromkeys(("action", "baseline", "next_baseline"), (n, p))
        wanted |= dict.fromkeys(("reward", "terminated", "truncated", "propensity", "box", "session", "step", "user"), (n,))
        for name, shape in wanted.items():
            if np.shape(getattr(self, name)) != shape:
                raise DataError(f"transitions: {name} has shape {np.shape(getattr(self, name))}; it must be {shape}")
        for name in _OPTIONAL:
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise DataError(f"transitions: {name} has {len(column)} rows; it must have {n}")

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def n_obs(self) -> int:
        """Width of a state."""
        return len(self.obs_names)

    @property
    def n_params(self) -> int:
        """Width of an action."""
        return len(self.param_names)

    @property
    def starts(self) -> Ints:
        """First row of every session, `[n_sessions]`."""
        return np.flatnonzero(np.r_[True, np.diff(self.session) != 0][: len(self)])

    def returns(self, gamma: float = 1.0) -> Floats:
        """Discounted return of every session, `[n_sessions]`."""
        if not len(self):
            return np.zeros(0)
        return np.add.reduceat(self.reward.astype(float) * gamma ** self.step.astype(float), self.starts)

    def take(self, rows: AnyArray) -> Self:
        """Some rows (indices or a mask), in memory."""
        some: dict[str, Any] = {name: np.asarray(column[rows]) for name, column in self.columns().items()}
        return replace(self, **some)

    def columns(self) -> dict[str, AnyArray]:
        """The columns with one entry a row, by name."""
        found = {name: getattr(self, name) for name in (*_COLUMNS, *_OPTIONAL)}
        return {name: column for name, column in found.items() if column is not None}

    def save(self, folder: str | Path) -> None:
        """Write as .npy files with a manifest; see `load`."""
        save_parts(folder, [self])

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` or `save_parts` wrote, as memory maps.

        Raises:
            DataError: The folder holds no transition table, or a damaged one.
        """
        found, about = mapped.read(folder)
        columns: dict[str, Any] = dict(found)
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            raise DataError(f"{str(folder)!r} is no transition table: column {missing[0]!r} is missing")
        values: dict[str, Any] = {name: tuple(about[name]) for name in ("param_names", "obs_names", "group_names", "task_names")}
        values |= {name: np.array(about[name], np.float32) for name in ("low", "high")}
        return cls(**columns, **values, group_weights=np.array(about["group_weights"], float))

    @classmethod
    def from_log(
        cls,
        log: Columns,
        *,
        obs_names: Sequence[str],
        param_names: Sequence[str],
        low: AnyArray,
        high: AnyArray,
        reward: Reward | None = None,
        baseline: AnyArray | Callable[[Floats32], AnyArray] | None = None,
        box: float | None = None,
        task_names: Sequence[str] = (),
        gaps: Gaps = "error",
    ) -> Self:
        """A table from a log with one row a page: a rollout's, or any with `obs`, `action`, `next_obs`, `session`, `step`, ...

        Args:
            log: Columns `obs`, `next_obs`, `action`, `session`, `step`, `terminated`, `truncated`; `user_id` (or `user`); the
                counts of the reward's tasks, or `reward`; where known `propensity`, `baseline`, `box_low` and `box_high`,
                `candidates`, `candidate_scores` `[n, N * n_tasks]`, `slate`, `time_ms`; counts by position `at_<task>` `[n, k]`.
            reward: What a page is worth; the log's own column `reward` as one group by default, with its `position_rewards`.
            baseline: The logging policy without exploration, where the log has no such column: an action, or obs -> actions.
            box: Half-width of the logging box, where the log has no bounds.
            gaps: What to do with a session that lacks a page: refuse, or leave the session out.

        Raises:
            DataError: A column is missing, a number is not finite, an action lies outside [-1, 1] or its box, a session has
                holes.
        """
        rows = np.lexsort([_column(log, "step"), _column(log, "session")])
        first = int(log["step"].min(initial=2**31 - 1))  # some count pages from 0, some from 1
        rows = rows[_whole_sessions(log["session"][rows], log["step"][rows], first, gaps)]
        obs, action = _floats(log, "obs", rows), _floats(log, "action", rows)
        next_obs = _floats(log, "next_obs", rows)
        session = log["session"][rows].astype(np.int64)
        own = log["baseline"][rows] if "baseline" in log else baseline
        at, after = _baselines(own, obs, next_obs, action.shape, session)
        total, parts, names, weights = _rewards(log, rows, reward)
        user = log["user_id" if "user_id" in log else "user"][rows] if {"user_id", "user"} & set(log) else session
        extra: dict[str, Any] = {name: log[name][rows] for name in _OPTIONAL if name in log}
        if reward is not None:
            extra["position_rewards"] = _position_rewards(log, rows, reward)
        if "candidate_scores" in extra and extra["candidate_scores"].ndim == 2:
            extra["candidate_scores"] = extra["candidate_scores"].reshape(len(rows), -1, len(task_names))
        table = cls(
            obs=obs,
            action=action,
            reward=total,
            rewards=parts,
            next_obs=next_obs,
            terminated=_column(log, "terminated")[rows].astype(bool),
            truncated=_column(log, "truncated")[rows].astype(bool),
            propensity=log["propensity"][rows].astype(float) if "propensity" in log else np.full(len(rows), np.nan),
            baseline=at,
            next_baseline=after,
            box=_half_width(log, rows, at, box),
            session=session,
            step=(log["step"][rows] - first).astype(np.int32),
            user=_whole_numbers(user),
            param_names=tuple(param_names),
            obs_names=tuple(obs_names),
            low=np.asarray(low, np.float32),
            high=np.asarray(high, np.float32),
            group_names=names,
            group_weights=weights,
            **extra,
            task_names=tuple(task_names),
        )
        table.check()
        return table

    def check(self) -> None:
        """Refuse what no learner or estimator could use.

        Raises:
            DataError: A number is not finite, an action lies outside [-1, 1] or outside its box, a density is not positive.
        """
        for name in ("obs", "next_obs", "action", "reward", "rewards"):
            if not np.isfinite(getattr(self, name)).all():
                raise DataError(f"transitions: {name} holds a number that is not finite; leave such rows out of the log")
        if len(self) and np.abs(self.action).max() > 1 + _SLACK:
            row = int(np.abs(self.action).max(1).argmax())
            raise DataError(
                f"transitions: action {self.action[row].tolist()} of session {self.session[row]}, step {self.step[row]} lies "
                "outside [-1, 1]; actions are normalised to the formula's declared ranges"
            )
        with np.errstate(invalid="ignore"):
            beyond = (np.abs(self.action - self.baseline).max(1, initial=0) > self.box + _SLACK) & np.isfinite(self.box)
            bad = self.propensity <= 0
        if beyond.any():
            row = int(beyond.argmax())
            raise DataError(
                f"transitions: action {self.action[row].tolist()} of session {self.session[row]}, step {self.step[row]} lies "
                f"outside the box of {self.box[row]} around {self.baseline[row].tolist()}; the log names another box"
            )
        if bad.any():
            raise DataError(f"transitions: propensity {self.propensity[bad][0]} must be a density above 0, or NaN where unknown")


def save_parts(folder: str | Path, parts: Iterable[Transitions]) -> int:
    """Write tables that follow one another as one, a part at a time in memory; returns the number of rows.

    Raises:
        DataError: A part's names or ranges differ from the first's.
    """
    iterator = iter(parts)
    first = next(iterator, None)
    if first is None:
        raise DataError("nothing to write: the transition table has no part")
    about = _about(first)

    def columns() -> Iterable[Columns]:
        yield first.columns()
        for part in iterator:
            if _about(part) != about:
                raise DataError("a part of the transition table has other names, ranges or weights than the first")
            yield part.columns()

    return mapped.write(folder, columns(), about)


_META = ("param_names", "obs_names", "group_names", "task_names", "low", "high", "group_weights")
_OPTIONAL = ("candidates", "candidate_scores", "slate", "position_rewards", "time_ms")
_COLUMNS = tuple(f.name for f in fields(Transitions) if f.name not in (*_META, *_OPTIONAL))


def _about(table: Transitions) -> dict[str, Any]:
    return {name: np.asarray(getattr(table, name)).tolist() for name in _META}


def _column(log: Columns, name: str) -> AnyArray:
    if name not in log:
        raise DataError(f"the log has no column {name!r}, which transitions need; columns are {', '.join(log)}")
    return np.asarray(log[name])


def _floats(log: Columns, name: str, rows: Ints) -> Floats32:
    return _column(log, name)[rows].astype(np.float32)


def _whole_sessions(session: AnyArray, step: AnyArray, first: int, gaps: Gaps) -> Bools:
    """Rows of sessions without holes: steps begin at `first` and follow one another by 1. Rows are sorted."""
    if not len(session):
        return np.zeros(0, bool)
    begins = np.r_[True, session[1:] != session[:-1]]
    index = np.cumsum(begins) - 1
    wanted = np.where(begins, first, np.r_[first, step[:-1] + 1])
    wrong = step != wanted
    broken = np.bincount(index[wrong], minlength=index[-1] + 1) > 0
    if broken.any() and gaps == "error":
        at = int(wrong.argmax())
        raise DataError(
            f"{int(broken.sum())} of {len(broken)} sessions have holes: session {session[at]} has step {step[at]} where "
            f"{wanted[at]} should be; a page is missing or doubled. Take gaps 'drop' to leave such sessions out"
        )
    kept: Bools = ~broken[index]
    return kept


def _baselines(
    own: AnyArray | Callable[[Floats32], AnyArray] | None,
    obs: Floats32,
    next_obs: Floats32,
    shape: tuple[int, ...],
    session: Ints,
) -> tuple[Floats32, Floats32]:
    """The baseline at each state and at the next one: the next row's within a session, the row's own at its end."""
    if own is None:
        unknown = np.full(shape, np.nan, np.float32)
        return unknown, unknown
    if callable(own):
        return np.asarray(own(obs), np.float32), np.asarray(own(next_obs), np.float32)
    at = np.array(np.broadcast_to(np.asarray(own, np.float32), shape))
    after = at.copy()
    goes_on = np.flatnonzero(np.diff(session) == 0)
    after[goes_on] = at[goes_on + 1]
    return at, after


def _half_width(log: Columns, rows: Ints, baseline: Floats32, box: float | None) -> Floats32:
    """A box is cut at [-1, 1]; its half-width is the larger of its two sides in any parameter."""
    if "box_low" not in log or "box_high" not in log:
        return np.full(len(rows), np.nan if box is None else box, np.float32)
    sides = np.maximum(baseline - log["box_low"][rows], log["box_high"][rows] - baseline)
    half: Floats32 = sides.max(1).astype(np.float32)
    return half


def _rewards(log: Columns, rows: Ints, reward: Reward | None) -> tuple[Floats32, Floats32, tuple[str, ...], Floats]:
    if reward is None:
        total = _floats(log, "reward", rows)
        return total, total[:, None], ("reward",), np.ones(1)
    counts: Mapping[str, AnyArray] = {task: log[task][rows] for task in reward.tasks if task in log}
    total, parts = reward.of(counts)
    return total, parts, reward.names, reward.group_weights


def _position_rewards(log: Columns, rows: Ints, reward: Reward) -> Floats32 | None:
    """What each position earned, `[n, k]`; None where the log does not say it of every task."""
    gains = reward.gains()
    if any(AT + task not in log for task in gains):
        return None
    by_task = [gain * log[AT + task][rows].astype(float) for task, gain in gains.items()]
    earned: Floats32 = np.sum(by_task, axis=0).astype(np.float32)
    return earned


def _whole_numbers(values: AnyArray) -> Ints:
    """Users as numbers; names are numbered in their sorted order."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
