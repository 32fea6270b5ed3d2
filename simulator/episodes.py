"""Which session comes next in a slot: separate sessions of random users, or users living through days and coming back."""

from __future__ import annotations

import numpy as np

from core.arrays import Bools, Ints
from simulator.session import Page, Sessions
from simulator.streams import key

_LONE, _LIFE, _FIRST_DAY = 71, 72, 73


class LoneSessions:
    """Session number `e` is played by a user that the seed and `e` name; slot `i` of `n` plays `i`, `i + n`, `i + 2 n` ...

    So session `e` is the same whatever the number of slots. `limit` None goes on for ever. With `again`, sessions `e` and
    `e + again` have the same user and the same random numbers: several policies can play the very same sessions side by side.
    """

    def __init__(
        self, sessions: Sessions, seed: int, *, first: int = 0, limit: int | None = None, again: int | None = None
    ) -> None:
        self._sessions, self._seed, self._first, self._limit, self._again = sessions, seed, first, limit, again
        self._next = np.arange(sessions.n) + first
        self.alive: Bools = np.zeros(sessions.n, bool)

    def start(self) -> None:
        """Begin in every slot."""
        self.follow(np.arange(self._sessions.n), None)

    def follow(self, slots: Ints, page: Page | None) -> None:
        """Begin the next sessions in slots whose session ended."""
        number = self._next[slots]
        self._next[slots] += self._sessions.n
        stream = key(self._seed, _LONE, number if self._again is None else number % self._again)
        users = (stream % np.uint64(len(self._sessions.world.population))).astype(np.int64)
        none = np.zeros(len(slots), np.int64)
        self._sessions.begin(slots, stream, users, number, none, None, none)
        self.alive[slots] = True if self._limit is None else number < self._first + self._limit


class Lives:
    """Users `users` (each once) live through days 0 .. n_days - 1: after a session they are away for some days, then come back.

    A user's `k`-th session depends on the seed, the user and `k`; `order` of users does not matter to it.
    """

    def __init__(self, sessions: Sessions, seed: int, users: Ints, n_days: int) -> None:
        self._sessions, self._seed, self.users, self._n_days = sessions, seed, users, n_days
        self._taken = 0
        self.done = 0  # users whose days are over
        self.alive: Bools = np.zeros(sessions.n, bool)

    def start(self) -> None:
        """Put the first users into the slots."""
        self._enter(np.arange(self._sessions.n))

    def follow(self, slots: Ints, page: Page | None) -> None:
        """After sessions that ended with `page`: the same user's next session, or the next user where the days are over."""
        assert page is not None
        world = self._sessions.world
        away = page.days_away[slots]
        day = self._sessions.day[slots].astype(np.int64) + away
        back = day < self._n_days
        stay, users, number = slots[back], self._sessions.user[slots[back]], self._sessions.session[slots[back]] + 1
        carried = np.float32(world.settings.session_carry) * self._sessions.satisfaction[stay]
        self._sessions.begin(stay, key(self._seed, _LIFE, users, number), users, number, day[back], carried, away[back])
        self.done += int((~back).sum())
        self._enter(slots[~back])

    def _enter(self, slots: Ints) -> None:
        world = self._sessions.world
        while len(slots):
            users = self.users[self._taken : self._taken + len(slots)]
            self._taken += len(users)
            here = slots[: len(users)]
            self.alive[slots[len(users) :]] = False
            if not len(users):
                return
            first = key(self._seed, _FIRST_DAY, users)
            u = ((first >> np.uint64(40)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
            none = np.zeros(len(users), np.float32)
            day = world.satisfaction.days_away(none, world.population.activity[users], u)
            in_time = day < self._n_days
            go, start, who = here[in_time], day[in_time], users[in_time]
            zero = np.zeros(len(go), np.int64)
            self._sessions.begin(go, key(self._seed, _LIFE, who, zero), who, zero, start, None, zero)
            self.alive[go] = True
            slots = here[~in_time]
            self.done += len(slots)
