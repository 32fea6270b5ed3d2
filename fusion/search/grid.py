"""Grid search for up to three parameters: every combination, coarse to fine is the user's choice."""

from __future__ import annotations

import itertools

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError
from fusion.search.searcher import Answers


class Grid:
    """The full grid with as many equally spaced points a side as `n_trials` allows, ends included."""

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1) -> None:
        if n_dims > 3:
            raise ConfigError(f"grid search over {n_dims} parameters; at most 3 are sensible, use sobol, cem or cma_es")
        side = max(2, int(np.floor(n_trials ** (1 / n_dims) + 1e-9)))
        self._points = np.array(list(itertools.product(np.linspace(0, 1, side), repeat=n_dims)))
        self._next = 0

    def ask(self, n: int) -> Floats:
        """The next points of the grid."""
        points = self._points[self._next : self._next + n]
        self._next += len(points)
        return points

    def tell(self, points: Floats, answers: Answers) -> None:
        """A grid learns nothing."""
