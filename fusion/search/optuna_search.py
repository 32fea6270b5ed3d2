"""Bayesian search (TPE, Gaussian process) and NSGA-II through Optuna, guardrails as its constraints."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from core.arrays import Floats
from fusion.search.searcher import Answers

_VIOLATION = "violation"


class _Optuna:
    """A study in memory behind ask/tell; subclasses name the sampler."""

    many = False  # one value, or one a term

    def __init__(self, n_dims: int, *, n_trials: int, seed: int = 0, n_terms: int = 1) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these samplers and arguments experimental
            sampler = self._sampler(seed, n_trials)
        self._study = optuna.create_study(directions=["maximize"] * (n_terms if self.many else 1), sampler=sampler)
        self._ranges: dict[str, Any] = {f"x{i}": optuna.distributions.FloatDistribution(0.0, 1.0) for i in range(n_dims)}
        self._asked: list[optuna.Trial] = []

    def _sampler(self, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        raise NotImplementedError

    def ask(self, n: int) -> Floats:
        """The sampler's next points."""
        self._asked = [self._study.ask(self._ranges) for _ in range(n)]
        return np.array([[trial.params[name] for name in self._ranges] for trial in self._asked])

    def tell(self, points: Floats, answers: Answers) -> None:
        """What each point was worth."""
        for i, trial in enumerate(self._asked):
            trial.set_user_attr(_VIOLATION, float(answers.violations[i]))
            values = answers.terms[i].tolist() if self.many else [float(answers.values[i])]
            if np.isfinite(values).all():
                self._study.tell(trial, values)
            else:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)


class Tpe(_Optuna):
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate."""

    def _sampler(self, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, constraints_func=_constraint)


class GaussianProcess(_Optuna):
    """Gaussian-process search with the expected improvement; for a few hundred trials."""

    def _sampler(self, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=20, constraints_func=_constraint)


class Nsga2(_Optuna):
    """NSGA-II (Deb et al. 2002): every metric is an objective, the result a Pareto front."""

    many = True

    def _sampler(self, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
        population = int(np.clip(n_trials // 20, 10, 100))
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population, constraints_func=_constraint)


def _constraint(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    return (float(trial.user_attrs.get(_VIOLATION, 0.0)),)
