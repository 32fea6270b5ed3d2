"""Satisfaction: a slow state fed by the true worth of what was read, by repetition and regret; it makes users leave and come
back."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats32, Ints
from simulator.behaviour import CLICK, FIRST_HEAD, WATCH, Outcome, phi, sigmoid
from simulator.settings import FIXED, WorldSettings

_VALUE_HIGH = 6.0  # an item is worth at most six average ones of its kind
_WORST, _BEST = -3.0, 3.0  # what one page can do, in standard deviations of a hand-set page


class Satisfaction:
    """How pages move the state and the state moves the user.

    `conditional` `[n_tasks]` holds each behaviour's mean given a click, so that a need of 1 is worth one average occurrence;
    `mean` and `spread` are those of a page's worth under the hand-set weights: the state is 0 for an average hand-set page.
    """

    def __init__(self, s: WorldSettings, conditional: Floats32, need_shift: Floats32) -> None:
        self._s = s
        self.conditional = conditional
        self.need_shift = need_shift  # (n_scenarios, n_tasks)
        self.mean, self.spread = 0.0, 1.0
        self._leave = np.float32(np.log(s.leave_rate / (1 - s.leave_rate)))

    def worth(
        self, truth: Floats32, log_long: Floats32, log_complete: Floats32, clickbait: Floats32, need: Floats32, noise: np.float32
    ) -> Floats32:
        """The true worth of opening each item, `truth` `[H, ...]` and `need` `[n_tasks, ...]` (broadcast) -> `[...]`.

        The sum over behaviours of need times the true expectation given a click, in average occurrences, less the regret.
        """
        total = -np.float32(self._s.regret_clickbait) * clickbait
        total += need[0]
        for task in range(1, len(self.conditional)):
            total += need[task] * self._occurrences(task, truth, log_long, log_complete, noise)
        return total

    def _occurrences(self, task: int, truth: Floats32, log_long: Floats32, log_complete: Floats32, noise: np.float32) -> Floats32:
        if task == len(self.conditional) - 1:
            value = np.exp(np.clip(truth[WATCH], -3.0, 9.0) + np.float32(0.5) * noise * noise)
        elif task < len(FIXED):
            value = phi((truth[WATCH] - (log_long if task == 1 else log_complete)) / noise)
        else:
            value = sigmoid(truth[FIRST_HEAD + task - len(FIXED)])
        scaled: Floats32 = np.minimum(value / self.conditional[task], np.float32(_VALUE_HIGH))
        return scaled

    def page(self, worth: Floats32, outcome: Outcome, repetition: Floats32) -> Floats32:
        """The worth of a page, `[B]`: its opened items' worth less `boredom` per repeated topic, over the page's size."""
        opened = outcome.done[CLICK] * (worth - np.float32(self._s.boredom) * repetition)
        return add_up(opened) * np.float32(1 / opened.shape[1])

    def next_state(self, state: Floats32, page: Floats32) -> Floats32:
        """The state after a page, `[B]`."""
        shift = np.clip((page - np.float32(self.mean)) / np.float32(self.spread), np.float32(_WORST), np.float32(_BEST))
        keep = np.float32(self._s.satisfaction_keep)
        moved: Floats32 = keep * state + (np.float32(1) - keep) * shift
        return moved

    def hazard(self, state: Floats32, patience: Floats32, step: Ints) -> Floats32:
        """The probability of leaving after page number `step` (from 1), `[B]`."""
        fatigue = np.float32(self._s.leave_fatigue) * (step - 1).astype(np.float32)
        return sigmoid(self._leave - np.float32(self._s.leave_satisfaction) * state - patience + fatigue)

    def days_away(self, state: Floats32, activity: Floats32, u: Floats32) -> Ints:
        """Whole days until the next session (0: the same day, at most 30), geometric in shape, `[B]` from uniform numbers."""
        mean = np.float32(self._s.return_days) * np.exp(
            np.clip(-np.float32(self._s.return_satisfaction) * state - activity, np.float32(-5), np.float32(5))
        )
        days: Ints = np.minimum(np.floor(-mean * np.log(u)), np.float32(30)).astype(np.int64)
        return days


def add_up(values: Floats32) -> Floats32:
    """The sum over the last axis, always in the same order, so that a batch of any size gives the same bits."""
    total = values[..., 0].copy()
    for column in range(1, values.shape[-1]):
        total += values[..., column]
    return total
