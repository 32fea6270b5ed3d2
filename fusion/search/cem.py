"""Cross-entropy search: sample, keep the best tenth, refit (Rubinstein 1999)."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats
from fusion.search.searcher import Answers


class CrossEntropy:
    """A diagonal Gaussian over the unit cube, clipped; the first generation is uniform."""

    def __init__(
        self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1, elite: float = 0.1, smooth: float = 0.3
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._n_dims, self._elite, self._smooth = n_dims, elite, smooth
        self._mean, self._std = np.full(n_dims, 0.5), np.full(n_dims, 0.5)
        self._size = max(10 * n_dims, 20, n_trials // 20)
        self._first = True
        self._points: list[Floats] = []
        self._answers: list[Answers] = []

    def ask(self, n: int) -> Floats:
        """Points of the current generation."""
        if self._first:
            return self._rng.random((n, self._n_dims))
        return np.clip(self._rng.normal(self._mean, self._std, (n, self._n_dims)), 0.0, 1.0)

    def tell(self, points: Floats, answers: Answers) -> None:
        """Collect a generation, then refit."""
        self._points.append(points)
        self._answers.append(answers)
        if sum(len(p) for p in self._points) < self._size:
            return
        everything = np.concatenate(self._points)
        together = Answers(*(np.concatenate(part) for part in zip(*self._answers, strict=True)))
        elite = everything[together.best_first()[: max(2, int(len(everything) * self._elite))]]
        keep = 0.0 if self._first else self._smooth
        self._mean = keep * self._mean + (1 - keep) * elite.mean(axis=0)
        self._std = keep * self._std + (1 - keep) * elite.std(axis=0) + 1e-3
        self._first, self._points, self._answers = False, [], []
