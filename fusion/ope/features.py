"""Features of a state and an action, in which a value function is linear.

`SlateFeatures` knows what a fusion's action does: it ranks the stored candidates and describes the list that would be shown.
Many actions give one list, so what was logged covers a new policy far better there than in the space of actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from core.arrays import AnyArray, Floats32, Ints
from core.errors import ConfigError, DataError
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.program import Frame, compile_tree
from fusion.ope.episodes import Episodes
from fusion.ope.session import step_numbers

Fuse = Callable[[AnyArray, AnyArray], AnyArray]  # actions [n, n_params], scores [n, N, n_tasks] -> final [n, N]


class Features(Protocol):
    """What describes a page, without a constant."""

    def __call__(self, obs: Floats32, action: AnyArray, scores: AnyArray | None, context: Floats32 | None) -> Floats32:
        """States, actions, candidate scores and the pages' context -> features `[n, d]` float32."""

    def context(self, episodes: Episodes) -> Floats32 | None:
        """What is computed once for a log, whatever the policy, `[n, m]`; None where nothing is."""


@dataclass(frozen=True, slots=True)
class ActionFeatures:
    """The state, the action, the action's products (`degree` 2), and each of these times the gate columns of the state.

    Attributes:
        gates: Columns of the state by which the action's effect may differ; all by default.
        degree: 1 or 2.
    """

    gates: Sequence[int] | None = None
    degree: int = 2

    def __call__(
        self, obs: Floats32, action: AnyArray, scores: AnyArray | None = None, context: Floats32 | None = None
    ) -> Floats32:
        """`[n, d]` float32."""
        a = np.asarray(action, np.float32)
        if self.degree == 2:
            i, j = np.triu_indices(a.shape[1])
            a = np.concatenate([a, a[:, i] * a[:, j]], axis=1)
        return gated(obs, a, self.gates)

    def context(self, episodes: Episodes) -> Floats32 | None:
        """Nothing."""
        return None


@dataclass(frozen=True, slots=True)
class SlateFeatures:
    """The state, the page's number in its session, and of the list that the action would show: every task's mean score (also
    times the gate columns of the state), mean log score and mean products of two log scores; beside the former two the same of
    the list that a `reference` action would have shown, and the share of items that the two lists have in common.

    Lists are better where a user's candidates are, and such users stay longer whatever is shown. With the reference list beside
    it, the action's own effect is read from the difference between the two lists, which the exploration drew at random.

    A list is chosen for its scores, so the highest of them are too high, the more so the harder a policy chose by them. But what
    an item is worth given ALL its scores does not depend on who chose it. So a list is the mean over its items of a function of
    an item's scores, here of second degree in their logarithms; means of scores alone take the winners' luck for value, near the
    reference above all. A value falls in bends over a session, not in a line, hence the page's number in pieces.

    Attributes:
        fuse: Ranks: actions and candidate scores to final scores.
        page_size: How many are shown.
        scale: `[n_tasks]`, brings each task's scores near 1 (one over its mean).
        gates: Columns of the state by which a score's worth may differ; all by default.
        reference: States to actions, usually the logging policy's mean; None leaves the reference list out.
        chunk: Pages ranked at a time.
    """

    fuse: Fuse
    page_size: int
    scale: Floats32
    gates: Sequence[int] | None = None
    reference: Callable[[Floats32], AnyArray] | None = None
    chunk: int = 4096

    def __call__(
        self, obs: Floats32, action: AnyArray, scores: AnyArray | None = None, context: Floats32 | None = None
    ) -> Floats32:
        """`[n, d]` float32.

        Raises:
            DataError: The log does not hold the candidates' scores.
        """
        rows, shown, n_tasks = *self._lists(action, scores), len(self.scale)
        crossed = gated(obs, shown[:, :n_tasks], self.gates)[:, obs.shape[1] + n_tasks :]
        if context is None:
            return np.concatenate([obs, shown, crossed], axis=1)
        place, usual_rows, usual = np.split(context, [len(_BENDS), len(_BENDS) + self.page_size], axis=1)
        if self.reference is None:
            return np.concatenate([obs, place, shown, crossed], axis=1)
        common = (rows[:, :, None] == usual_rows[:, None, :]).any(2).mean(1, dtype=np.float32, keepdims=True)
        return np.concatenate([obs, place, usual[:, : 2 * n_tasks], shown - usual, common, crossed], axis=1)

    def context(self, episodes: Episodes) -> Floats32:
        """The page's number in pieces, `[n, 8]`; with a reference also its list's rows and description, `[n, 8 + k + m]`."""
        place = pieces(step_numbers(episodes.first, len(episodes)))
        if self.reference is None:
            return place
        rows, shown = self._lists(self.reference(episodes.obs), episodes.scores)
        return np.concatenate([place, rows.astype(np.float32), shown], axis=1)

    def _lists(self, action: AnyArray, scores: AnyArray | None) -> tuple[Ints, Floats32]:
        """The candidates' rows that each action shows, `[n, k]`, and means over them, `[n, m]`: of scaled scores, of their
        logarithms, of products of two logarithms."""
        if scores is None:
            raise DataError("the log holds no candidate scores; log them for a share of requests, or use action features")
        n_tasks = scores.shape[2]
        pairs = np.triu_indices(n_tasks)
        rows = np.empty((len(action), self.page_size), np.int64)
        shown = np.empty((len(action), 2 * n_tasks + len(pairs[0])), np.float32)
        for start in range(0, len(action), self.chunk):
            part = slice(start, start + self.chunk)
            offered = np.asarray(scores[part], np.float32)  # (c, N, T)
            rows[part] = top_rows(self.fuse(action[part], offered), self.page_size)
            picked = np.take_along_axis(offered, rows[part][:, :, None], 1) * self.scale  # (c, k, T)
            logs = np.log(np.maximum(picked, 0) + _FLOOR)
            products = logs.transpose(0, 2, 1) @ logs / self.page_size  # (c, T, T)
            shown[part] = np.concatenate([picked.mean(1), logs.mean(1), products[:, pairs[0], pairs[1]]], axis=1)
        return rows, shown


_FLOOR: Final = np.float32(0.1)  # of a task's mean score: what is added before logarithms
_BENDS: Final = (0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 22.0, np.inf)


def pieces(step: Ints) -> Floats32:
    """Page numbers as columns in which a piecewise linear function of them is linear, first two pages apart: `[n]` -> `[n, 8]`.

    >>> pieces(np.array([0, 1, 4])).tolist()[2]
    [0.0, 0.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    """
    columns = [step == bend for bend in _BENDS[:2]] + [np.minimum(step, bend) for bend in _BENDS[2:]]
    found: Floats32 = np.stack(columns, axis=1).astype(np.float32)
    return found


def formula_fuse(
    formula: Formula, tasks: Sequence[str], low: AnyArray, high: AnyArray, calibration: Calibration | None = None
) -> Fuse:
    """How a formula's parameters, as actions between `low` and `high` `[n_params]`, rank many pages at once.

    Args:
        tasks: The columns of the stored scores.
        calibration: Of the scores, where the logging strategy had one.

    Raises:
        ConfigError: The formula reads a task whose scores are not stored, or the request's context, which is not.
    """
    missing = [task for task in formula.tasks if task not in tasks]
    if missing or formula.context:
        raise ConfigError(
            f"formula {formula.text!r} reads {(missing or list(formula.context))[0]!r}; stored are scores of {', '.join(tasks)}"
        )
    run = compile_tree(formula.tree)

    def fuse(action: AnyArray, scores: AnyArray) -> AnyArray:
        n, n_items, _ = scores.shape
        flat = ScoreTable(tuple(tasks), np.asarray(scores, np.float64).reshape(n * n_items, -1))
        if calibration is not None:
            flat = calibration.apply(flat, list(formula.tasks))
        values = low + (np.asarray(action, np.float64) + 1) * 0.5 * (high - low)  # (n, P)
        params = {name: np.repeat(values[:, i], n_items) for i, name in enumerate(formula.params)}
        columns = {task: np.ascontiguousarray(flat[task]) for task in formula.tasks}
        with np.errstate(all="ignore"):
            final = run(Frame(columns, params, {}, n * n_items, np.arange(n + 1) * n_items))
        found: AnyArray = np.nan_to_num(np.broadcast_to(final, (n * n_items,)), nan=-np.inf).reshape(n, n_items)
        return found

    return fuse


def top_rows(final: AnyArray, k: int) -> Ints:
    """The rows of the `k` largest final scores, best first, ties to the earlier row: `[n, N]` -> `[n, k]`.

    >>> top_rows(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist()
    [[1, 2, 3]]
    """
    left = np.array(final)
    best = np.empty((len(left), k), np.int64)
    rows = np.arange(len(left))
    for position in range(k):
        best[:, position] = left.argmax(1)
        left[rows, best[:, position]] = -np.inf
    return best


def gated(obs: Floats32, x: Floats32, gates: Sequence[int] | None) -> Floats32:
    """`[obs, x, x * obs[gate] for each gate]`, `[n, n_obs + d * (1 + n_gates)]`."""
    states = np.asarray(obs, np.float32)
    by = states if gates is None else states[:, list(gates)]
    crossed = (x[:, :, None] * by[:, None, :]).reshape(len(x), -1)
    return np.concatenate([states, x, crossed], axis=1)
