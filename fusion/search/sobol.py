"""Random and Sobol search: points that do not depend on the answers."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from core.arrays import Floats
from fusion.search.searcher import Answers


class Random:
    """Uniform points."""

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._n_dims = n_dims

    def ask(self, n: int) -> Floats:
        """`n` fresh points."""
        return self._rng.random((n, self._n_dims))

    def tell(self, points: Floats, answers: Answers) -> None:
        """Nothing to learn."""


class Sobol:
    """A scrambled Sobol sequence: fills the cube more evenly than chance (Sobol 1967, Owen 1998)."""

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1) -> None:
        size = 1 << max(0, int(np.ceil(np.log2(max(1, n_trials)))))
        self._points = np.asarray(qmc.Sobol(n_dims, scramble=True, rng=np.random.default_rng(seed)).random(size))
        self._next = 0

    def ask(self, n: int) -> Floats:
        """The next points of the sequence; none once the power of two above `n_trials` is used up."""
        points = self._points[self._next : self._next + n]
        self._next += len(points)
        return points

    def tell(self, points: Floats, answers: Answers) -> None:
        """Nothing to learn."""
