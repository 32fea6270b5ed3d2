"""Features of a state and an action, in which a value function is linear.

`SlateFeatures` knows what a fusion's action does: it ranks the stored candidates and describes the list that would be shown.
Many actions give one list, so what was logged covers a new policy far better there than in the space of actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.arrays import AnyArray, Floats32, Ints
from core.errors import ConfigError, DataError
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.program import Frame, compile_tree
from fusion.ope.episodes import Episodes

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
    """The state, and of the list that the action would show: the mean score of every task, also times the gate columns of the
    state; beside it the same means of the list that a `reference` action would have shown.

    Lists are better where a user's candidates are, and such users stay longer whatever is shown. With the reference list beside
    it, the action's own effect is read from the difference between the two lists, which the exploration drew at random.

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
        shown = self.shown(action, scores)
        if context is None:
            return gated(obs, shown, self.gates)
        crossed = gated(obs, shown, self.gates)[:, obs.shape[1] + shown.shape[1] :]
        return np.concatenate([obs, context, shown - context, crossed], axis=1)

    def context(self, episodes: Episodes) -> Floats32 | None:
        """The mean scores of the reference lists, `[n, n_tasks]`."""
        return None if self.reference is None else self.shown(self.reference(episodes.obs), episodes.scores)

    def shown(self, action: AnyArray, scores: AnyArray | None) -> Floats32:
        """The mean score of every task over the list that each action shows, `[n, n_tasks]`, scaled."""
        if scores is None:
            raise DataError("the log holds no candidate scores; log them for a share of requests, or use action features")
        shown = np.empty((len(action), scores.shape[2]), np.float32)
        for start in range(0, len(action), self.chunk):
            rows = slice(start, start + self.chunk)
            offered = np.asarray(scores[rows], np.float32)  # (c, N, T)
            best = top_rows(self.fuse(action[rows], offered), self.page_size)  # (c, k)
            shown[rows] = np.take_along_axis(offered, best[:, :, None], 1).mean(1)  # (c, T)
        shown *= self.scale
        return shown


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
