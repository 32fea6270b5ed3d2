"""Everybody's session at once: offer candidates, show pages, move states. A slot holds one user; its numbers come from its own
stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Bools, Floats32, Ints
from simulator.behaviour import CLICK, Outcome
from simulator.predictions import Ranker, checked_ranker
from simulator.satisfaction import add_up
from simulator.streams import Words, key, normals, uniforms, words
from simulator.world import World

DAY_MS = 86_400_000
START_MS = 1_704_067_200_000  # day 0 of every world: 2024-01-01 00:00 UTC
_PAGE, _START = 61, 62


@dataclass(frozen=True, slots=True)
class Page:
    """What one step showed and caused, `B` slots and `k` shown items; `left` excludes sessions cut by the step limit."""

    rows: Ints  # [B, k], rows of the candidates
    items: Ints  # [B, k]
    outcome: Outcome
    counts: Floats32  # [B, n_tasks]: how often each behaviour happened on the page; seconds for watch_s
    reward: Floats32  # [B]
    worth: Floats32  # [B], the hidden worth of the page
    left: Bools  # [B]
    cut: Bools  # [B]
    days_away: Ints  # [B], days until the next session, should this one have ended
    time_ms: Ints  # [B], when the page was shown


class Sessions:
    """`n` slots of a world. Call `begin` for some slots, then in turn `offer` (all slots) and `show`.

    Args:
        ranker: Scores users `[B]` and items `[B, N]` in the place of the simulated predictions, `[B, N, n_tasks]`; may also be
            `ByScenario`.
        ranker_tasks: The names of its columns; the world's own tasks by default.
    """

    def __init__(
        self, world: World, n: int, *, ranker: Ranker | None = None, ranker_tasks: tuple[str, ...] | None = None
    ) -> None:
        s = world.settings
        self.world, self.n = world, n
        n_tasks, n_heads, shape = len(world.tasks), world.behaviour.n_heads, (n, s.n_candidates)
        self._ranker: Callable[[Ints, Ints, Ints], Floats32] | None = (
            None if ranker is None else checked_ranker(ranker, ranker_tasks or world.tasks.names, world.tasks.names)
        )
        self.n_offers = 0
        self.user, self.session, self.step = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.place, self.days_since = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.day, self.satisfaction = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.clock_ms = np.zeros(n, np.int64)
        self.boredom = np.zeros((n, s.n_topics), np.float32)
        self.taste = np.zeros((n, s.n_topics), np.float32)
        self.need = np.zeros((n_tasks, n, 1), np.float32)
        self.counts, self.last = np.zeros((n, n_tasks), np.float32), np.zeros((n, n_tasks), np.float32)
        self._key: Words = np.zeros(n, np.uint64)
        self._step_key: Words = np.zeros(n, np.uint64)
        self.items = np.zeros(shape, np.int64)
        self.truth = np.zeros((2 + n_heads, *shape), np.float32)
        self.planes = np.zeros((n_tasks, *shape), np.float32)
        self._affinity, self._scratch = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._words: tuple[Words, Words] = (np.zeros(shape, np.uint64), np.zeros(shape, np.uint64))
        self._reward = np.array([s.reward.get(task, 0.0) for task in world.tasks.names], np.float32)

    @property
    def scores(self) -> Floats32:
        """The ranker's predictions, `[n, n_candidates, n_tasks]`: a view, valid until the next `offer`."""
        return np.moveaxis(self.planes, 0, -1)

    @property
    def stream(self) -> Words:
        """The keys `[n]` of this step's random numbers."""
        return self._step_key

    def begin(
        self, slots: Ints, stream: Words, users: Ints, session: Ints, day: Ints, satisfaction: Floats32 | None, days_since: Ints
    ) -> None:
        """Start sessions in some slots; all arguments `[len(slots)]`.

        Args:
            stream: The key of each session's random numbers.
            satisfaction: Carried over from the last session; drawn around 0 when None.
        """
        world, s = self.world, self.world.settings
        first = words(key(stream, _START), 3)
        u, z = uniforms(first[:, :2]), normals(first[:, 2:])
        self.user[slots], self.session[slots], self.step[slots] = users, session, 0
        self._key[slots] = stream
        self.place[slots] = np.searchsorted(world.scenario_edges, u[:, 0])
        self.day[slots], self.days_since[slots] = day, days_since
        hour = np.clip(15.0 + 5.0 * z[:, 1], 0.0, 23.9)
        self.clock_ms[slots] = START_MS + day * DAY_MS + (hour * 3.6e6).astype(np.int64)
        self.satisfaction[slots] = np.float32(0.3) * z[:, 0] if satisfaction is None else satisfaction
        self.boredom[slots] = 0
        self.taste[slots] = world.population.taste(users, day.astype(np.float32), s.drift_period_days)
        self.need[:, slots] = world.need(users, self.place[slots])
        self.counts[slots], self.last[slots] = 0, 0

    def offer(self) -> None:
        """Draw every slot's candidates, their truth and their predictions, for the next page."""
        world, s = self.world, self.world.settings
        self.n_offers += 1
        self._step_key = key(self._key, self.step)
        block = words(self._step_key, s.n_candidates, *self._words)
        items = world.retrieval.draw(self.user, block, self.items)
        taste = self.taste - np.float32(s.boredom) * self.boredom
        affinity = world.affinity(taste, items, self._affinity)
        fresh = world.freshness(items, self.day) if s.click_fresh else self._scratch
        world.behaviour.truth(self.user, items, affinity, fresh, self.place, self.truth, self._scratch)
        if self._ranker is None:
            world.predictions.score(self.user, items, self.truth, self.planes)
        else:
            self.planes[:] = self._ranker(self.user, items, self.place)

    def show(self, rows: Ints) -> Page:
        """Show candidates `[n, k]` (rows of the offer, best first), let everybody act, and move on by one step."""
        world, s = self.world, self.world.settings
        n, k = rows.shape
        flat = rows + (np.arange(n) * s.n_candidates)[:, None]
        items = np.take(self.items.ravel(), flat)
        truth = np.take(self.truth.reshape(len(self.truth), -1), flat, axis=1)
        n_draws = 2 + world.behaviour.n_heads
        n_uniform = k * n_draws + 2
        n_words = -(-n_uniform // 2)
        block = words(key(self._step_key, _PAGE), n_words + -(-2 * k // 4))
        u, z = uniforms(block[:, :n_words]), normals(block[:, n_words:])
        outcome = world.behaviour.act(truth, items, u[:, : k * n_draws].reshape(n, k, n_draws), z[:, :k], z[:, k : 2 * k])
        repetition = self._repeat(items, outcome)
        worth = world.satisfaction.page(world.worth(truth, items, self.need), outcome, repetition)
        self.satisfaction = world.satisfaction.next_state(self.satisfaction, worth)
        self.step += 1
        leave = u[:, k * n_draws] < world.satisfaction.hazard(self.satisfaction, world.population.patience[self.user], self.step)
        away = world.satisfaction.days_away(self.satisfaction, world.population.activity[self.user], u[:, k * n_draws + 1])
        counts = np.ascontiguousarray(add_up(outcome.done).T)  # (n, T)
        self.counts += counts
        self.last = counts
        time_ms = self.clock_ms.copy()
        self.clock_ms += (1000 * (counts[:, -1] + np.float32(2.0))).astype(np.int64)
        reward = add_up(counts * self._reward)
        return Page(rows, items, outcome, counts, reward, worth, leave, ~leave & (self.step >= s.step_limit), away, time_ms)

    def _repeat(self, items: Ints, outcome: Outcome) -> Floats32:
        """How often each shown item's topic was opened of late (decaying per page); the page itself is then added, `[n, k]`."""
        topic = self.world.catalogue.topic[:, 0][items] + (np.arange(len(items)) * self.boredom.shape[1])[:, None]
        repetition: Floats32 = np.take(self.boredom.ravel(), topic)
        flat = self.boredom.reshape(-1)
        flat *= np.float32(self.world.settings.boredom_keep)
        for column in range(items.shape[1]):
            flat[topic[:, column]] += outcome.done[CLICK][:, column] * np.float32(0.5)
        return repetition


def top(final: AnyArray, k: int) -> Ints:
    """Rows of the `k` largest values, best first, ties to the earlier row: `[B, N]` -> `[B, k]`. NaN counts as the smallest.

    >>> top(np.array([[1.0, 3.0, 3.0, 2.0]]), 3).tolist()
    [[1, 2, 3]]
    """
    left = np.array(final)
    with np.errstate(invalid="ignore"):
        doubtful = np.isnan(left.sum())  # also where infinities of both signs meet, which costs nothing but the copy
    if doubtful:
        np.copyto(left, -np.inf, where=np.isnan(left))
    chosen = np.empty((len(left), k), np.int64)
    slots = np.arange(len(left))
    worst = np.inf
    for position in range(k):
        best = left.argmax(1)
        chosen[:, position] = best
        worst = left[slots, best].min(initial=worst)
        left[slots, best] = -np.inf
    if worst == -np.inf:  # some row ran out of numbers: sort them all
        return np.argsort(-np.where(np.isnan(final), -np.inf, final), axis=1, kind="stable")[:, :k]
    return chosen
