"""A trained ranker inside a simulated world: it scores the simulator's users and items as it will in the service."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from core.arrays import AnyArray, Floats32, Ints
from core.artefacts import ArtefactStore
from ranker.batches import pack_sides
from ranker.encoder import SideRows
from ranker.features import Side
from ranker.predictor import Predictor
from simulator.predictions import ByScenario
from simulator.world import World


class WorldRanker(ByScenario):
    """Scores of users `[B]` and items `[B, N]` in scenarios `[B]`, `[B, N, n_world_tasks]`, for `SessionEnv(ranker=...)`.

    Users, items and scenarios are encoded once. A task that the ranker does not score is 0 everywhere.
    """

    def __init__(self, predictor: Predictor, world: World) -> None:
        encoder = self._encoder = predictor.encoder
        self._predictor = predictor
        scenarios = np.array(list(world.settings.scenarios), object)
        self._users = encoder.encode("user", world.user_columns(), len(world.population))
        self._items = encoder.encode("item", world.item_columns(), len(world.catalogue))
        self._request = encoder.encode("request", {"scenario": scenarios}, len(scenarios))
        self._tasks = world.tasks.names

    def score(self, users: Ints, items: Ints, place: Ints) -> Floats32:
        """Scores of each user's candidates."""
        n, k = items.shape
        sides: Mapping[Side, SideRows] = {
            "user": self._users.take(np.repeat(users, k)),
            "request": self._request.take(np.repeat(place, k)),
            "item": self._items.take(items.ravel()),
        }
        found: Mapping[str, AnyArray] = self._predictor.run(pack_sides(self._encoder, sides))[1]
        nothing = np.zeros(n * k)
        table = np.stack([found.get(task, nothing) for task in self._tasks], axis=1)  # (n * k, T)
        return table.reshape(n, k, -1).astype(np.float32)


@lru_cache(maxsize=1)
def predictor_of(root: str, label: str) -> Predictor:
    """A published ranker, read once a process."""
    return Predictor.load(ArtefactStore(root).find(label))
