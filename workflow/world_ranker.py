"""A trained ranker inside a simulated world: it scores the simulator's users and items as it will in the service."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.arrays import AnyArray, Floats32, Ints
from core.errors import ConfigError
from ranker.batches import pack_sides
from ranker.encoder import SideRows
from ranker.features import Side
from ranker.predictor import Predictor
from simulator.world import World


class WorldRanker:
    """Users `[B]` and items `[B, N]` to scores `[B, N, n_world_tasks]`, for `SessionEnv(ranker=...)`.

    Users and items are encoded once. A task that the ranker does not score is 0 everywhere.

    Raises:
        ConfigError: The world has several scenarios and the ranker reads them: a simulated request does not name its own here.
    """

    def __init__(self, predictor: Predictor, world: World) -> None:
        scenarios = list(world.settings.scenarios)
        if len(scenarios) > 1 and predictor.spec.side("request"):
            raise ConfigError(f"the world has scenarios {', '.join(scenarios)}, which the ranker reads; give a world with one")
        encoder = self._encoder = predictor.encoder
        self._predictor = predictor
        self._users = encoder.encode("user", world.user_columns(), len(world.population))
        self._items = encoder.encode("item", world.item_columns(), len(world.catalogue))
        self._request = encoder.encode("request", {"scenario": np.array(scenarios[:1], object)}, 1)
        self._tasks = world.tasks.names

    def __call__(self, users: Ints, items: Ints) -> Floats32:
        """Scores of each user's candidates."""
        n, k = items.shape
        sides: Mapping[Side, SideRows] = {
            "user": self._users.take(np.repeat(users, k)),
            "request": self._request.take(np.zeros(n * k, np.int64)),
            "item": self._items.take(items.ravel()),
        }
        found: Mapping[str, AnyArray] = self._predictor.run(pack_sides(self._encoder, sides))[1]
        nothing = np.zeros(n * k)
        table = np.stack([found.get(task, nothing) for task in self._tasks], axis=1)  # (n * k, T)
        return table.reshape(n, k, -1).astype(np.float32)
