"""The ranker of a simulated world: the truth on the logit scale plus an error that stays with the user and the item.

A head's prediction is `sigmoid(scale * (a + b * (truth + sd * user_error * noise)) + bias)`: `sd` is found so that the task
reaches its AUC, `a` and `b` so that it is calibrated before the set `scale` and `bias` spoil it. Predictions of what needs a
click are multiplied by the predicted click, as a ranker of the entire space does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from core.arrays import Bools, Floats, Floats32, Ints
from core.errors import ConfigError
from simulator.behaviour import CLICK, FIRST_HEAD, WATCH, Behaviour, phi, sigmoid
from simulator.settings import FIXED, RankerError, WorldSettings
from simulator.streams import Words, key, mix, normal_planes, normals, words


class ByScenario(ABC):
    """A ranker that also wants to know where it scores."""

    @abstractmethod
    def score(self, users: Ints, items: Ints, place: Ints) -> Floats32:
        """Users `[B]`, items `[B, N]`, scenarios `[B]` (in the settings' order) -> scores `[B, N, n_tasks]`."""


Ranker = Callable[[Ints, Ints], Floats32] | ByScenario  # users [B], items [B, N] -> scores [B, N, n_tasks]
_SAMPLES = 20_000


class Predictions:
    """Scores `[n_tasks, B, N]` in the order of the world's tasks: probabilities, and seconds for `watch_s`."""

    def __init__(self, s: WorldSettings, behaviour: Behaviour, is_new: Bools, seed: int) -> None:
        self._behaviour = behaviour
        self.tasks = s.tasks
        self._n_words = -(-len(s.tasks) // 4)
        n_users = behaviour.user.shape[1]
        self._user_key = key(seed, 41, np.arange(n_users))
        self._item_key = key(seed, 42, np.arange(len(is_new)))
        error = normals(words(key(seed, 43, np.arange(n_users)), 1))[:, 0]
        self._user_error = np.exp(s.ranker_user_spread * error).astype(np.float32)
        self._cold = (1 + s.cold_noise * is_new).astype(np.float32) if s.cold_noise else None
        self._settings = [s.ranker.get(task, RankerError()) for task in s.tasks]
        n = len(s.tasks)
        self.sd, self.slope, self.shift = np.zeros(n, np.float32), np.ones(n, np.float32), np.zeros(n, np.float32)
        self.reached = np.full(n, np.nan)
        self._log_watch = np.float32(0.5) * behaviour.noise * behaviour.noise
        self._block: Words = np.empty((0, 0, 0), np.uint64)
        self._scratch: Words = np.empty((0, 0, 0), np.uint64)

    def score(self, users: Ints, items: Ints, truth: Floats32, out: Floats32) -> Floats32:
        """Predictions for candidates `[B, N]` whose truth is `[2 + n_heads, B, N]`."""
        noise = self._noise(users, items)
        user_error = self._user_error[users][:, None]
        cold = None if self._cold is None else self._cold[items]
        for task in range(len(self.tasks)):
            plane = noise[task]
            plane *= user_error * self.sd[task]
            if cold is not None:
                plane *= cold
            plane += self._logit(task, truth, items)
            if self.slope[task] != 1:
                plane *= self.slope[task]
            plane += self.shift[task]
            if task == len(self.tasks) - 1:
                np.maximum(plane, np.float32(-5), out=plane)
                np.minimum(plane, np.float32(9), out=plane)
                np.exp(plane, out=out[task])
            else:
                sigmoid(plane, out=out[task])
            if task:
                out[task] *= out[CLICK]
        return out

    def _noise(self, users: Ints, items: Ints) -> list[Floats32]:
        shape = (self._n_words, *items.shape)
        if self._block.shape != shape:
            self._block, self._scratch = np.empty(shape, np.uint64), np.empty(shape, np.uint64)
        self._item_key.take(items, out=self._block[0], mode="clip")
        self._block[0] ^= self._user_key[users][:, None]
        mix(self._block[0], self._scratch[0])
        for index in range(1, self._n_words):
            np.copyto(self._block[index], self._block[index - 1])
            mix(self._block[index], self._scratch[index])
        left = len(self.tasks)
        return [plane for k in range(self._n_words) for plane in normal_planes(self._block[k], min(4, left - 4 * k))]

    def _logit(self, task: int, truth: Floats32, items: Ints) -> Floats32:
        """The truth a task's head is after; the two watch thresholds as logits of their normal probabilities."""
        logit: Floats32
        if task == 0:
            logit = truth[CLICK]
        elif task < len(FIXED):
            bound = self._behaviour.log_long if task == 1 else self._behaviour.log_complete
            logit = truth[WATCH] - bound.take(items)
            logit *= np.float32(1.702) / self._behaviour.noise  # the logistic curve nearest to the normal one
        elif task == len(self.tasks) - 1:
            logit = truth[WATCH] + self._log_watch
        else:
            logit = truth[FIRST_HEAD + task - len(FIXED)]
        return logit

    def calibrate(self, users: Ints, items: Ints, truth: Floats32) -> None:
        """Find every task's noise, slope and shift on a sample of candidates: users `[n]`, items `[n, 1]`, truth `[H, n, 1]`."""
        noise = self._noise(users, items)
        user_error = self._user_error[users][:, None]
        click = sigmoid(truth[CLICK])[:, 0].astype(float)
        predicted_click = np.ones_like(click)
        for task, setting in enumerate(self._settings):
            logit = self._logit(task, truth, items)[:, 0].astype(float)
            target = true_conditional(self._behaviour, task, truth, items)[:, 0].astype(float)
            shock = (noise[task] * user_error)[:, 0].astype(float)
            if task == len(self._settings) - 1:
                self.sd[task], self.slope[task] = 0.3, 1.0
                guess = np.exp(np.clip(logit + self.sd[task] * shock, -5, 9)) * predicted_click
                self.shift[task] = np.log((target * click).mean() / guess.mean()) + setting.bias
                continue
            space = click if task else np.ones_like(click)
            low, self.reached[task] = find_noise(logit, shock, target * space, predicted_click, setting.auc)
            self.sd[task] = low
            shift, slope = fit_logistic(logit + low * shock, target, space)
            self.slope[task], self.shift[task] = slope * setting.scale, shift * setting.scale + setting.bias
            if task == 0:
                predicted_click = _plain_sigmoid(shift + slope * (logit + low * shock))


def find_noise(logit: Floats, shock: Floats, target: Floats, factor: Floats, wanted: float) -> tuple[float, float]:
    """The noise by which `factor * sigmoid(logit + noise * shock)` has the wanted AUC for `target`, and the AUC reached.

    Noise 0 where even the truth does not reach it.
    """

    def reached(sd: float) -> float:
        return soft_auc(target, factor * _plain_sigmoid(logit + sd * shock))

    low, high = 0.0, 12.0
    if reached(0.0) > wanted:
        for _ in range(14):
            middle = (low + high) / 2
            low, high = (middle, high) if reached(middle) > wanted else (low, middle)
    return low, reached(low)


def true_conditional(behaviour: Behaviour, task: int, truth: Floats32, items: Ints) -> Floats32:
    """The expectation of a task given a click (of the click itself for task 0), with the shape of `items`.

    An interaction is averaged over the viewing's own noise by five-point Gauss-Hermite quadrature, and so is watch time, with
    more points where it jumps (`watch_finish`).
    """
    n_tasks = len(FIXED) + behaviour.n_heads + 1
    if task == 0:
        return sigmoid(truth[CLICK])
    if task < len(FIXED):
        bound = behaviour.log_long if task == 1 else behaviour.log_complete
        return phi((truth[WATCH] - bound[items]) / behaviour.noise)
    watch = task == n_tasks - 1
    points, weights = np.polynomial.hermite_e.hermegauss(25 if watch and behaviour.finish else 5)
    total = np.zeros(items.shape, np.float32)
    for point, weight in zip(points, weights / weights.sum(), strict=True):
        if watch:
            total += np.float32(weight) * behaviour.seconds(truth[WATCH] + behaviour.noise * np.float32(point), items)
        else:
            head = task - len(FIXED)
            total += np.float32(weight) * sigmoid(truth[FIRST_HEAD + head] + behaviour.enjoy[head] * np.float32(point))
    return total


def soft_auc(probability: Floats, score: Floats) -> float:
    """The AUC of a score when row `i` is positive with `probability[i]`: the expected share of rightly ordered pairs.

    >>> soft_auc(np.array([1.0, 0.0, 1.0]), np.array([3.0, 1.0, 0.5]))
    0.5
    """
    order = np.argsort(score, kind="stable")
    p = probability[order]
    below = np.cumsum(1 - p) - (1 - p)
    pairs = p.sum() * (1 - p).sum() - (p * (1 - p)).sum()
    return float((p * below).sum() / pairs)


def fit_logistic(x: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Intercept and slope of the weighted logistic regression of probabilities on one column, by Newton steps."""
    mean = float(np.clip(np.average(target, weights=weight), 1e-12, 1 - 1e-12))
    intercept, slope = float(np.log(mean / (1 - mean))), 0.0
    for _ in range(30):
        p = _plain_sigmoid(intercept + slope * x)
        curve = weight * p * (1 - p) + 1e-12
        error = weight * (target - p)
        a, b, c = curve.sum(), (curve * x).sum(), (curve * x * x).sum()
        det = a * c - b * b
        if det <= 1e-9 * a * c:
            break
        step = (c * error.sum() - b * (error * x).sum()) / det, (a * (error * x).sum() - b * error.sum()) / det
        intercept, slope = intercept + float(np.clip(step[0], -2, 2)), slope + float(np.clip(step[1], -2, 2))
        if max(abs(step[0]), abs(step[1])) < 1e-9:
            break
    return intercept, slope


def check_tasks(ranker_tasks: Sequence[str], tasks: Sequence[str]) -> None:
    """Whether a ranker scores all that a world asks for.

    Raises:
        ConfigError: It lacks a task.
    """
    missing = [task for task in tasks if task not in ranker_tasks]
    if missing:
        raise ConfigError(
            f"the ranker lacks task {missing[0]!r}; it has {', '.join(ranker_tasks)}, the world asks for {', '.join(tasks)}"
        )


def checked_ranker(
    ranker: Ranker, ranker_tasks: tuple[str, ...], tasks: tuple[str, ...]
) -> Callable[[Ints, Ints, Ints], Floats32]:
    """A trained ranker in the place of the simulated one: `[B, N, n_ranker_tasks]` scores as planes of the world's tasks.

    Raises:
        ConfigError: The world needs a task that the ranker lacks.
    """
    check_tasks(ranker_tasks, tasks)
    columns = [ranker_tasks.index(task) for task in tasks]

    def planes(users: Ints, items: Ints, place: Ints) -> Floats32:
        scores = ranker.score(users, items, place) if isinstance(ranker, ByScenario) else ranker(users, items)
        return np.ascontiguousarray(np.moveaxis(np.asarray(scores, np.float32)[..., columns], -1, 0))

    return planes


def _plain_sigmoid(x: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return result
