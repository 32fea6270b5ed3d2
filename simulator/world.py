"""A world: items, users, retrieval, truth, ranker and satisfaction, made from settings and a seed and measured once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import AnyArray, Columns, Floats, Floats32, Ints
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from simulator.behaviour import CLICK, FIRST_HEAD, Behaviour, sigmoid
from simulator.catalogue import make_catalogue
from simulator.population import make_population
from simulator.predictions import Predictions, true_conditional
from simulator.retrieval import Retrieval, uniform_pairs
from simulator.satisfaction import Satisfaction
from simulator.settings import FIXED, WorldSettings, from_values, load_settings
from simulator.streams import key, normals, uniforms, words

_REQUESTS = 4_000  # sample requests by which a world is measured
_PER_REQUEST = 5


class World:
    """Everything that is true, and what may be known of it.

    `unit` `[n_tasks]` turns a predicted score into average occurrences: `unit * score` has mean 1 over the candidates, so
    weights of 1 for every task are equally large. `up` `[n_tasks]` is -1 for behaviours that nobody wants (hate), else 1.

    >>> world = World.make("default", seed=1, n_users=200, n_items=500)
    >>> world.tasks.names[:4], len(world.item_columns()["item_id"])
    (('click', 'long_view', 'complete', 'like'), 500)
    """

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.tasks = task_set(settings)
        self.catalogue = make_catalogue(settings, seed)
        self.population = make_population(settings, seed)
        self.retrieval = Retrieval(settings, self.catalogue, self.population, seed)
        self.behaviour = Behaviour(settings, self.catalogue, self.population, seed)
        self.predictions = Predictions(settings, self.behaviour, self.catalogue.is_new, seed)
        self.up = np.array([-1.0 if task.goal == "down" else 1.0 for task in self.tasks], np.float32)
        shares = np.array([place.share for place in settings.scenarios.values()])
        self.scenario_edges = np.cumsum(shares / shares.sum())[:-1].astype(np.float32)
        self._topic = np.ascontiguousarray(self.catalogue.topic.T)
        self._blend = np.ascontiguousarray(self.catalogue.blend.T)
        self._measure()

    @classmethod
    def make(cls, preset: str | Path = "default", *, seed: int = 0, **overrides: Any) -> World:
        """A preset's world; settings can be changed by keyword.

        Raises:
            ConfigError: The preset or a setting is unknown, or a value breaks its rule.
        """
        return cls(load_settings(preset, **overrides), seed)

    @classmethod
    def load(cls, folder: str | Path) -> World:
        """The world of an exported folder, made again from its `world.json`."""
        path = Path(folder) / "world.json"
        try:
            saved = json.loads(path.read_text())
            settings, seed = from_values(saved["settings"]), int(saved["seed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"no world at {str(path)!r} ({error}); make one with `scorefusion simulate --out FOLDER`") from error
        return cls(settings, seed)

    def save(self, folder: str | Path) -> Path:
        """Write `items.parquet`, `users.parquet` and `world.json`."""
        target = Path(folder)
        LoggedDataset(self.item_columns()).to_parquet(target / "items.parquet")
        LoggedDataset(self.user_columns()).to_parquet(target / "users.parquet")
        content = {"settings": self.settings.to_json(), "seed": self.seed, "tasks": self.tasks.to_json()}
        (target / "world.json").write_text(json.dumps(content, indent=1) + "\n")
        return target

    def item_columns(self) -> Columns:
        """`item_id` and the items' visible features, `[n_items]` each."""
        return {"item_id": np.arange(len(self.catalogue)), **self.catalogue.visible}

    def user_columns(self) -> Columns:
        """`user_id` and the users' visible features, `[n_users]` each; `past_*` are noisy rates of their own history."""
        past = normals(words(key(self.seed, 51, np.arange(len(self.population))), -(-len(self.tasks) // 4)))
        heads: dict[str, AnyArray] = {}
        for index, (name, plane) in enumerate(zip(("click", "watch_s", *self.settings.heads), self.behaviour.user, strict=True)):
            heads[f"past_{name}"] = np.exp(0.8 * plane + 0.2 * past[:, index]).astype(np.float32)
        return {"user_id": np.arange(len(self.population)), **self.population.visible, **heads}

    def hand_set(self) -> Floats32:
        """The preset's hand-set weights in units of average occurrences, `[n_tasks]`, signed."""
        return np.array([self.settings.hand_set.get(task, 0.0) for task in self.tasks.names], np.float32)

    def formula_weights(self, weights: Floats32) -> dict[str, float]:
        """Weights in average occurrences as factors of raw scores, by task: for a formula `sum_k w_k * score_k`."""
        return {task: float(w * unit) for task, w, unit in zip(self.tasks.names, weights, self.unit, strict=True)}

    def fuse(self, weights: Floats32, scores: Floats32) -> Floats32:
        """The weighted sum in average occurrences: weights `[B, n_tasks]`, scores `[B, N, n_tasks]` -> final `[B, N]`."""
        scaled = weights * self.unit
        final = scaled[:, 0, None] * scores[..., 0]
        for task in range(1, scores.shape[-1]):
            final += scaled[:, task, None] * scores[..., task]
        return final

    def affinity(self, taste: Floats32, items: Ints, out: Floats32 | None = None) -> Floats32:
        """How well items `[B, N]` fit tastes `[B, n_topics]`: standard normal over a random pair."""
        row = (np.arange(len(taste)) * taste.shape[1])[:, None]
        flat = taste.ravel()
        first = flat.take(self._topic[0].take(items) + row, out=out, mode="clip")
        first *= self._blend[0].take(items)
        second = flat.take(self._topic[1].take(items) + row)
        second *= self._blend[1].take(items)
        first += second
        fit: Floats32 = first
        return fit

    def freshness(self, items: Ints, day: Floats32) -> Floats32:
        """exp(-age / fresh_days) of items `[B, N]` on days `[B]`."""
        age = day[:, None] - self.catalogue.birth_day.take(items)
        age *= np.float32(-1 / self.settings.fresh_days)
        fresh: Floats32 = np.exp(age, out=age)
        return fresh

    def worth(self, truth: Floats32, items: Ints, need: Floats32) -> Floats32:
        """The true worth of opening items: truth `[H, B, k]`, items `[B, k]`, need `[n_tasks, B, 1]` -> `[B, k]`."""
        b = self.behaviour
        return self.satisfaction.worth(
            truth, b.log_long[items], b.log_complete[items], self.catalogue.clickbait[items], need, b.noise
        )

    def need(self, users: Ints, place: Ints) -> Floats32:
        """What users `[B]` come for in scenarios `[B]`, `[n_tasks, B, 1]`."""
        return np.ascontiguousarray((self.population.need[users] + self.satisfaction.need_shift[place]).T)[:, :, None]

    def true_scores(self, truth: Floats32, items: Ints) -> Floats32:
        """The true expectation of every task, `[n_tasks, B, N]`: what a perfect ranker would say."""
        planes = np.empty((len(self.tasks), *items.shape), np.float32)
        for task in range(len(self.tasks)):
            planes[task] = true_conditional(self.behaviour, task, truth, items)
            if task:
                planes[task] *= planes[CLICK]
        return planes

    def _measure(self) -> None:
        """Set the intercepts by the wanted rates, the ranker by its AUCs, and the worth of an average hand-set page."""
        s, b = self.settings, self.behaviour
        users, block = uniform_pairs(s, self.seed, _REQUESTS)
        place = np.searchsorted(self.scenario_edges, uniforms(words(key(self.seed, 52, np.arange(_REQUESTS)), 1))[:, 0])
        items = self.retrieval.draw(users, block, np.empty((_REQUESTS, s.n_candidates), np.int64))
        day = np.zeros(_REQUESTS, np.float32)
        taste = self.population.taste(users, day, s.drift_period_days)
        n_some = min(_PER_REQUEST, s.n_candidates)
        columns = (
            np.arange(_REQUESTS)[:, None] + np.linspace(0, s.n_candidates, n_some, endpoint=False).astype(int)
        ) % s.n_candidates
        some = np.take_along_axis(items, columns, 1)  # (requests, some): every shard of the index in turn
        many = np.repeat(users, some.shape[1]), some.reshape(-1, 1), np.repeat(place, some.shape[1])
        truth = self._truth(many[0], many[1], np.repeat(taste, some.shape[1], 0), many[2])
        b.intercept[CLICK] = shift = solve_intercept(truth[CLICK].ravel().astype(float), np.ones(truth[CLICK].size), s.click_rate)
        click = sigmoid(truth[CLICK] + np.float32(shift)).ravel().astype(float)
        truth[CLICK] += np.float32(shift)
        for index, head in enumerate(s.heads.values()):
            noise = np.linspace(-1.9, 1.9, 11) * head.enjoy  # the viewing's noise, spread evenly over its quantiles' range
            logits = truth[FIRST_HEAD + index].ravel().astype(float)[:, None] + noise
            density = np.exp(-0.5 * np.linspace(-1.9, 1.9, 11) ** 2)
            shift = solve_intercept(logits.ravel(), (click[:, None] * density).ravel(), head.rate)
            b.intercept[FIRST_HEAD + index] = shift
            truth[FIRST_HEAD + index] += np.float32(shift)
        self.predictions.calibrate(many[0], many[1], truth)
        planes = self.true_scores(truth, many[1])[..., 0].astype(float)  # (T, n)
        self.rates: Floats = planes.mean(1)
        self.unit: Floats32 = (1 / self.rates).astype(np.float32)
        conditional = self.rates / self.rates[CLICK]
        conditional[CLICK] = 1.0
        shifts = [[p.need.get(t, 0.0) for t in self.tasks.names] for p in s.scenarios.values()]
        self.satisfaction = Satisfaction(s, conditional.astype(np.float32), np.array(shifts, np.float32))
        self._measure_pages(users, items, taste, place)

    def _measure_pages(self, users: Ints, items: Ints, taste: Floats32, place: Ints) -> None:
        s, b = self.settings, self.behaviour
        truth = self._truth(users, items, taste, place)
        scores = self.predictions.score(users, items, truth, np.empty((len(self.tasks), *items.shape), np.float32))
        weights = np.broadcast_to(self.hand_set(), (len(users), len(self.tasks)))
        final = self.fuse(weights, np.moveaxis(scores, 0, -1))
        rows = np.argsort(-final, axis=1, kind="stable")[:, : s.page_size]
        shown = np.take_along_axis(items, rows, 1)
        truth = np.take_along_axis(truth, np.broadcast_to(rows, (len(truth), *rows.shape)), 2)
        draws = words(key(self.seed, 53, np.arange(len(users))), s.page_size * 8)
        u = uniforms(draws)[:, : s.page_size * 2].reshape(-1, s.page_size, 2)
        opened = (u[..., 0] < b.examine) & (u[..., 1] < sigmoid(truth[CLICK]))
        page = (opened * self.worth(truth, shown, self.need(users, place))).sum(1) / s.page_size
        self.satisfaction.mean = float(page.mean())
        self.satisfaction.spread = float(max(page.std(), 1e-6))

    def _truth(self, users: Ints, items: Ints, taste: Floats32, place: Ints) -> Floats32:
        out = np.empty((2 + self.behaviour.n_heads, *items.shape), np.float32)
        fresh = self.freshness(items, np.zeros(len(users), np.float32))
        return self.behaviour.truth(
            users, items, self.affinity(taste, items), fresh, place, out, np.empty(items.shape, np.float32)
        )


def task_set(s: WorldSettings) -> TaskSet:
    """The world's behaviours as tasks: binary but for `watch_s`; what follows a click is trained on clicked rows where it says
    so."""
    down = {"hate"} | {name for name, weight in s.hand_set.items() if weight < 0}
    tasks = [TaskSpec(name, goal="down" if name in down else "up") for name in (*FIXED, *s.heads)]
    return TaskSet([*tasks, TaskSpec("watch_s", kind="regression", unit_of_measure="s")])


def solve_intercept(logit: Floats, weight: Floats, rate: float) -> float:
    """The shift by which the weighted mean of sigmoid(logit + shift) is the rate, by bisection.

    >>> round(solve_intercept(np.zeros(2), np.ones(2), 0.75), 4)
    1.0986
    """
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = np.average(1 / (1 + np.exp(-np.clip(logit + middle, -700, 700))), weights=weight)
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2
