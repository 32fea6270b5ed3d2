"""CMA-ES: a full Gaussian whose mean, step and covariance follow the better half (Hansen 2016)."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats
from fusion.search.searcher import Answers


class CmaEs:
    """The (mu/mu_w, lambda) strategy of Hansen's tutorial (arXiv 1604.00772) on the unit cube.

    Points outside are clipped before they are judged and learned from."""

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1, population: int | None = None) -> None:
        self._rng = np.random.default_rng(seed)
        n = self._n = n_dims
        self._lambda = population or 4 + int(3 * np.log(n)) + 8
        mu = self._lambda // 2
        raw = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
        self._w = raw / raw.sum()
        self._mu_eff = 1 / (self._w**2).sum()
        self._c_sigma = (self._mu_eff + 2) / (n + self._mu_eff + 5)
        self._d_sigma = 1 + 2 * max(0.0, np.sqrt((self._mu_eff - 1) / (n + 1)) - 1) + self._c_sigma
        self._c_c = (4 + self._mu_eff / n) / (n + 4 + 2 * self._mu_eff / n)
        self._c_1 = 2 / ((n + 1.3) ** 2 + self._mu_eff)
        self._c_mu = min(1 - self._c_1, 2 * (self._mu_eff - 2 + 1 / self._mu_eff) / ((n + 2) ** 2 + self._mu_eff))
        self._chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
        self._mean, self._sigma, self._cov = np.full(n, 0.5), 0.3, np.eye(n)
        self._path_sigma, self._path_c = np.zeros(n), np.zeros(n)
        self._generation = 0
        self._asked: list[Floats] = []
        self._answers: list[Answers] = []

    def ask(self, n: int) -> Floats:
        """Points of the current generation, at most what is left of it."""
        left = self._lambda - sum(len(p) for p in self._asked)
        values, vectors = np.linalg.eigh(self._cov)
        root = vectors * np.sqrt(np.maximum(values, 1e-20))
        points: Floats = self._mean + self._sigma * self._rng.normal(size=(min(n, left), self._n)) @ root.T
        return np.clip(points, 0.0, 1.0)

    def tell(self, points: Floats, answers: Answers) -> None:
        """Collect a generation, then move."""
        self._asked.append(points)
        self._answers.append(answers)
        if sum(len(p) for p in self._asked) < self._lambda:
            return
        everything = np.concatenate(self._asked)
        together = Answers(*(np.concatenate(part) for part in zip(*self._answers, strict=True)))
        self._move(everything[together.best_first()[: len(self._w)]])
        self._asked, self._answers = [], []

    def _move(self, best: Floats) -> None:
        self._generation += 1
        steps = (best - self._mean) / self._sigma  # (mu, n)
        step = self._w @ steps
        self._mean = self._mean + self._sigma * step
        values, vectors = np.linalg.eigh(self._cov)
        whitened = vectors @ ((vectors.T @ step) / np.sqrt(np.maximum(values, 1e-20)))
        c = self._c_sigma
        self._path_sigma = (1 - c) * self._path_sigma + np.sqrt(c * (2 - c) * self._mu_eff) * whitened
        length = float(np.linalg.norm(self._path_sigma))
        slow = length / np.sqrt(1 - (1 - c) ** (2 * self._generation)) < (1.4 + 2 / (self._n + 1)) * self._chi
        c = self._c_c
        self._path_c = (1 - c) * self._path_c + slow * np.sqrt(c * (2 - c) * self._mu_eff) * step
        rank_one = np.outer(self._path_c, self._path_c) + (1 - slow) * c * (2 - c) * self._cov
        rank_mu = (steps * self._w[:, None]).T @ steps
        self._cov = (1 - self._c_1 - self._c_mu) * self._cov + self._c_1 * rank_one + self._c_mu * rank_mu
        self._cov = (self._cov + self._cov.T) / 2
        self._sigma = float(np.clip(self._sigma * np.exp(self._c_sigma / self._d_sigma * (length / self._chi - 1)), 1e-6, 1.0))
