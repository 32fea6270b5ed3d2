"""Differential evolution through scipy, turned from a call that runs to its end into ask/tell."""

from __future__ import annotations

import queue
import threading
from typing import Any

import numpy as np
from scipy.optimize import Bounds, differential_evolution

from core.arrays import Floats
from fusion.search.searcher import Answers

_WORST = 1e6


class DifferentialEvolution:
    """scipy's solver in a thread of its own; it hands out a population, waits for the answers, and hands out the next."""

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1) -> None:
        self._n_dims, self._seed, self._generations = n_dims, seed, max(1, n_trials)
        self._populations: queue.Queue[Floats | None] = queue.Queue()
        self._costs: queue.Queue[Floats] = queue.Queue()
        self._waiting: Floats = np.zeros((0, n_dims))
        self._answered: list[Floats] = []
        self._thread: threading.Thread | None = None
        self._finished = False

    def ask(self, n: int) -> Floats:
        """The next points of the population."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        if len(self._waiting) == 0 and not self._finished:
            population = self._populations.get()
            self._finished = population is None
            self._waiting = np.zeros((0, self._n_dims)) if population is None else population
        return self._waiting[:n]

    def tell(self, points: Floats, answers: Answers) -> None:
        """Answers for the points of the last ask; a complete population goes back to the solver."""
        cost = np.where(np.isnan(answers.values), _WORST, -answers.values) + _WORST * np.minimum(answers.violations, 1.0)
        self._answered.append(cost)
        self._waiting = self._waiting[len(points) :]
        if len(self._waiting) == 0:
            self._costs.put(np.concatenate(self._answered))
            self._answered = []

    def _run(self) -> None:
        bounds = Bounds(np.zeros(self._n_dims), np.ones(self._n_dims))
        size = max(4, 24 // self._n_dims)
        differential_evolution(
            self._judge, bounds, maxiter=self._generations, popsize=size, rng=self._seed, polish=False, tol=0.0, atol=1e-12,
            vectorized=True, updating="deferred", init="sobol",
        )  # fmt: skip
        self._populations.put(None)

    def _judge(self, population: Any, /, *args: Any) -> Any:  # scipy: (n_dims, n) in, (n,) out, or one point
        points = np.array(population.T if population.ndim == 2 else population[None])
        self._populations.put(points)
        costs = self._costs.get()
        return costs if population.ndim == 2 else costs[0]
