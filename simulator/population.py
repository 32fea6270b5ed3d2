"""The users: drifting tastes, needs by cohort, activity, patience, a price grade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Floats32, Ints
from simulator.settings import WorldSettings
from simulator.streams import key, normals, uniforms, words

DAY_OF_LIFE = 2 * np.pi


@dataclass(frozen=True, slots=True)
class Population:
    """One row per user, `[n_users]`; tastes `[n_users, n_topics]`; needs `[n_users, n_tasks]`.

    A taste on day `t` is `steady + cos(w t + phase) * swing + sin(w t + phase) * sway`, standard normal per topic at any time.
    """

    cohort: Ints
    steady: Floats32
    swing: Floats32
    sway: Floats32
    phase: Floats32
    need: Floats32
    patience: Floats32
    activity: Floats32
    price_grade: Ints
    visible: dict[str, AnyArray]

    def __len__(self) -> int:
        return len(self.cohort)

    def taste(self, users: Ints, day: Floats32, period_days: float) -> Floats32:
        """Tastes of some users on their day: `[B]`, `[B]` -> `[B, n_topics]`."""
        angle = (np.float32(DAY_OF_LIFE / period_days) * day + self.phase[users])[:, None]
        drifted: Floats32 = self.steady[users] + np.cos(angle) * self.swing[users] + np.sin(angle) * self.sway[users]
        return drifted


def make_population(s: WorldSettings, seed: int) -> Population:
    """Draw the users; user `u` depends on the settings, the seed and `u` alone."""
    users = np.arange(s.n_users)
    u = uniforms(words(key(seed, 11, users), 3))  # (U, 6)
    z = normals(words(key(seed, 12, users), 2))  # (U, 8)
    n_words = -(-s.n_topics // 4)
    own, swing, sway = (normals(words(key(seed, purpose, users), n_words))[:, : s.n_topics] for purpose in (13, 14, 15))
    cohorts = list(s.cohorts)
    cohort = (u[:, 0] * len(cohorts)).astype(np.int64)
    shared = normals(words(key(seed, 16, np.arange(len(cohorts))), n_words))[:, : s.n_topics]  # (C, K)
    share = min(max(s.cohort_taste, 0.0), 1.0)
    base = np.sqrt(share) * shared[cohort] + np.sqrt(1 - share) * own
    tilt = np.array([[s.need.get(t, 0.0) + s.cohorts[c].get(t, 0.0) for t in s.tasks] for c in cohorts])  # (C, T)
    wobble = normals(words(key(seed, 17, users), -(-len(s.tasks) // 4)))[:, : len(s.tasks)]
    need = tilt[cohort] * np.exp(s.need_spread * wobble)
    steady = np.sqrt(1 - s.drift_share) * base
    activity = s.activity_spread * z[:, 0]
    price_grade = (4 * u[:, 1]).astype(np.int64)
    visible = {
        "cohort": np.where(u[:, 2] < 0.95, cohort, (u[:, 3] * len(cohorts)).astype(np.int64)),  # a twentieth is filed wrongly
        "price_grade": price_grade,
        "activity_level": np.clip(np.floor(activity / max(s.activity_spread, 1e-6) + 2.5), 0, 4).astype(np.int64),
        "favourite_topic": np.argmax(steady, axis=1).astype(np.int64),
        "register_days": np.floor(30 + 1500 * u[:, 4] ** 2).astype(np.float32),
    }
    return Population(
        cohort=cohort,
        steady=steady.astype(np.float32),
        swing=(np.sqrt(s.drift_share) * swing).astype(np.float32),
        sway=(np.sqrt(s.drift_share) * sway).astype(np.float32),
        phase=(DAY_OF_LIFE * u[:, 5]).astype(np.float32),
        need=need.astype(np.float32),
        patience=(s.patience_spread * z[:, 1]).astype(np.float32),
        activity=activity.astype(np.float32),
        price_grade=price_grade,
        visible=visible,
    )
