"""What a user does with a shown item: position examination > click > watch time > completion, long view and the interactions.

The truth is one plane of logits per head, `[B, N]`: click, the mean of log watch seconds given a click, and each interaction
given a click. An interaction also depends on how much the user enjoyed THIS viewing (the watch time's own noise), so the
behaviours of one impression are correlated beyond what any model of user and item could know. With `watch_finish`, who would
stop near the end watches to it: logs of short videos have many viewings of exactly the item's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from core.arrays import AnyArray, Bools, Floats32, Ints
from simulator.catalogue import Catalogue
from simulator.population import Population
from simulator.settings import FIXED, WorldSettings
from simulator.streams import key, normals, words

CLICK, WATCH, FIRST_HEAD = 0, 1, 2  # planes of the truth
_ONE = np.float32(1)
_GRID = np.linspace(-6, 6, 4097)
_PHI: Floats32 = ndtr(_GRID).astype(np.float32)
_REWATCH = 3.0  # nobody watches an item more than three times in one go
_GLANCE_S = 1.5  # median seconds on an item that was looked at and not opened


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen and done with the shown items, `[B, page_size]`; `done` `[n_tasks, B, page_size]` in the order of the
    tasks."""

    examined: Bools
    done: Floats32
    seconds: Floats32


class Behaviour:
    """The truth about every user and item. `intercept` `[2 + n_heads]` sets the base rates (see `world.py`)."""

    def __init__(self, s: WorldSettings, catalogue: Catalogue, population: Population, seed: int) -> None:
        heads = list(s.heads.values())
        self.n_heads = len(heads)
        self.noise = np.float32(s.watch_noise)
        self.taste = np.array([s.click_taste, s.watch_taste, *(h.taste for h in heads)], np.float32)
        self.enjoy = np.array([h.enjoy for h in heads], np.float32)
        self.intercept = np.zeros(2 + self.n_heads, np.float32)
        self.item = _item_planes(s, catalogue, seed)
        self.user = _user_planes(s, population, seed)
        places = list(s.scenarios.values())
        moved = [[p.logit.get(t, 0.0) for t in ("click", "watch_s", *s.heads)] for p in places]
        self.scenario = np.array(moved, np.float32).T.copy()  # (H, n_scenarios)
        self.examine = (np.arange(1, s.page_size + 1) ** -s.examine_power).astype(np.float32)
        self.fresh = s.click_fresh
        duration = catalogue.duration_s
        self.finish = s.watch_finish
        self.log_complete = (np.log(0.95 * duration) - s.watch_finish).astype(np.float32)
        self.log_long = np.log(np.minimum(0.95 * duration, s.long_view_s)).astype(np.float32)
        if self.finish:  # what is watched to its end is a long view
            self.log_long = np.minimum(self.log_long, self.log_complete)
        self.duration_s = duration

    def truth(
        self, users: Ints, items: Ints, affinity: Floats32, fresh: Floats32, place: Ints, out: Floats32, plane: Floats32
    ) -> Floats32:
        """Logits `[2 + n_heads, B, N]` of users `[B]` in scenarios `[B]` for items `[B, N]`; `plane` is scratch `[B, N]`."""
        user = self.user[:, users] + self.scenario[:, place] + self.intercept[:, None]  # (H, B)
        for head in range(2 + self.n_heads):
            self.item[head].take(items, out=out[head], mode="clip")
            out[head] += user[head][:, None]
            np.multiply(affinity, self.taste[head], out=plane)
            out[head] += plane
        if self.fresh:
            np.multiply(fresh, np.float32(self.fresh), out=plane)
            out[CLICK] += plane
        return out

    def act(self, truth: Floats32, items: Ints, u: Floats32, z: Floats32, w: Floats32) -> Outcome:
        """Draw what happens on a page.

        Args:
            truth: `[2 + n_heads, B, k]` of the shown items.
            u: Uniform numbers `[B, k, 2 + n_heads]`; z, w: normal numbers `[B, k]` for the viewing and the glance.
        """
        n_tasks = len(FIXED) + self.n_heads + 1
        done = np.zeros((n_tasks, *items.shape), np.float32)
        examined = u[..., 0] < self.examine[: items.shape[1]]
        click = examined & (u[..., 1] < sigmoid(truth[CLICK]))
        log_s = truth[WATCH] + self.noise * z
        duration = self.duration_s[items]
        seconds = self.seconds(log_s, items)
        glance = np.minimum(np.float32(_GLANCE_S) * np.exp(np.float32(0.5) * w), duration)
        done[0] = click
        done[1] = click & (log_s >= self.log_long[items])
        done[2] = click & (log_s >= self.log_complete[items])
        for head in range(self.n_heads):
            p = sigmoid(truth[FIRST_HEAD + head] + self.enjoy[head] * z)
            done[len(FIXED) + head] = click & (u[..., 2 + head] < p)
        done[-1] = np.where(click, seconds, np.where(examined, glance, np.float32(0)))
        return Outcome(examined, done, done[-1])

    def seconds(self, log_s: Floats32, items: Ints) -> Floats32:
        """Watch time of viewings that want to last exp(log_s) seconds: three rounds at most, and to the end when it is near."""
        duration = self.duration_s[items]
        watched: Floats32 = np.minimum(np.exp(np.clip(log_s, -3.0, 12.0)), np.float32(_REWATCH) * duration)
        if self.finish:
            np.maximum(watched, duration, out=watched, where=log_s >= self.log_complete[items])
        return watched


def sigmoid(x: Floats32, out: Floats32 | None = None) -> Floats32:
    """1 / (1 + exp(-x)), at any size and elementwise: the same bits in any batch.

    >>> sigmoid(np.array([0.0, -1000.0], np.float32)).tolist()
    [0.5, 0.0]
    """
    with np.errstate(over="ignore"):  # exp gives inf, and 1 / inf is the right 0
        out = np.negative(x, out=out)
        np.exp(out, out=out)
        out += _ONE
        result: Floats32 = np.reciprocal(out, out=out)
    return result


def phi(x: Floats32) -> Floats32:
    """The normal distribution function by table, to .0006."""
    index = np.minimum(np.maximum(x, np.float32(-6)), np.float32(6))
    index += np.float32(6)
    index *= np.float32(4096 / 12)
    index += np.float32(0.5)
    near: Floats32 = _PHI.take(index.astype(np.int64))
    return near


def _item_planes(s: WorldSettings, c: Catalogue, seed: int) -> Floats32:
    own = normals(words(key(seed, 31, np.arange(len(c))), -(-(1 + len(s.heads)) // 4))).T  # at least (1 + heads, I)
    log_length = np.log(c.duration_s / s.duration_median_s)
    planes: list[AnyArray] = [
        s.click_quality * c.quality + s.click_clickbait * c.clickbait + s.click_spread_item * own[0],
        np.log(s.watch_median_s) + s.watch_duration * log_length + s.watch_quality * c.quality + s.watch_clickbait * c.clickbait,
    ]
    for index, head in enumerate(s.heads.values()):
        planes.append(head.quality * c.quality + head.clickbait * c.clickbait + head.spread_item * own[1 + index])
    return np.ascontiguousarray(planes, np.float32)


def _user_planes(s: WorldSettings, p: Population, seed: int) -> Floats32:
    own = normals(words(key(seed, 32, np.arange(len(p))), -(-(2 + len(s.heads)) // 4))).T
    planes = [s.click_spread_user * own[0], s.watch_spread_user * own[1]]
    for index, (name, head) in enumerate(s.heads.items()):
        grade = 0.3 * (p.price_grade - 1.5) if name == "purchase" else 0.0
        planes.append(head.spread_user * own[2 + index] + grade)
    return np.ascontiguousarray(planes, np.float32)
