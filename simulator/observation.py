"""What a policy may see before it acts: the user's profile, the session so far, a summary of the candidates' predictions."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats32
from simulator.session import Sessions
from simulator.world import World

BOUND = 50.0


class Observer:
    """Turns the visible part of `n` slots into rows `[n, size]` of numbers around [-1, 5]; `names` says what each is."""

    def __init__(self, world: World) -> None:
        self._world = world
        user, tasks, s = world.population.visible, world.tasks.names, world.settings
        cohort = np.eye(len(s.cohorts), dtype=np.float32)[user["cohort"]]
        others = [user["price_grade"] / 3, user["activity_level"] / 4]
        past = [np.log(column) for name, column in world.user_columns().items() if name.startswith("past_")]
        self._profile = np.column_stack([cohort, *others, *past]).astype(np.float32)  # (U, C + 2 + H)
        self.names: tuple[str, ...] = (
            *(f"cohort_{name}" for name in s.cohorts),
            *("price_grade", "activity_level", "past_click", "past_watch_s", *(f"past_{name}" for name in s.heads)),
            *("step", "days_since", *(f"scenario_{name}" for name in s.scenarios)),
            *(f"{when}_{task}" for when in ("session", "page", "mean_score", "best_score") for task in tasks),
        )
        self.size = len(self.names)
        self._scale = np.full(len(tasks), 1 / s.page_size, np.float32)
        self._scale[-1] = 1 / (s.page_size * 30.0)  # half-minutes for watch_s
        self._seen: tuple[int, int] = (0, -1)
        self._kept: tuple[Floats32, Floats32] = (np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
        self._places = np.eye(len(s.scenarios), dtype=np.float32)

    def see(self, sessions: Sessions) -> Floats32:
        """Observations of all slots after an `offer`, `[n, size]` float32; a fresh array each time."""
        world = self._world
        mean, best = self._summary(sessions)
        parts = [
            self._profile[sessions.user],
            (sessions.step / world.settings.step_limit)[:, None],
            (np.minimum(sessions.days_since, 30) / 30)[:, None],
            self._places[sessions.place],
            np.log1p(sessions.counts * self._scale),
            sessions.last * self._scale,
            mean,
            best,
        ]
        seen: Floats32 = np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")
        return np.clip(seen, -BOUND, BOUND, out=seen)

    def _summary(self, sessions: Sessions) -> tuple[Floats32, Floats32]:
        """Mean and best (as log1p) prediction of each task in average occurrences, `[n, n_tasks]`, once per offer."""
        if self._seen != (id(sessions), sessions.n_offers):
            unit = self._world.unit[:, None]
            mean = np.add.reduce(sessions.planes, 2) * (unit / np.float32(sessions.planes.shape[2]))
            best = np.log1p(np.maximum.reduce(sessions.planes, 2) * unit)
            self._kept, self._seen = (
                (np.ascontiguousarray(mean.T), np.ascontiguousarray(best.T)),
                (id(sessions), sessions.n_offers),
            )
        return self._kept
