"""A Bayesian reading: the chance that the treatment is better and what choosing wrongly would cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class Posterior:
    """A normal posterior of an effect.

    `chance` is the probability that the effect is positive; `risk_control` and `risk_treatment` are the expected losses of
    keeping the control and of taking the treatment.
    """

    mean: float
    std: float
    low: float
    high: float
    chance: float
    risk_control: float
    risk_treatment: float


def posterior(
    estimate: float, se: float, *, prior_mean: float = 0.0, prior_std: float = float("inf"), alpha: float = 0.05
) -> Posterior:
    """Posterior of an effect from its estimate and standard error; flat unless a prior is given.

    >>> answer = posterior(0.02, 0.01)
    >>> round(answer.chance, 4), answer.risk_control > answer.risk_treatment
    (0.9772, True)
    """
    prior = 0.0 if np.isinf(prior_std) else 1 / prior_std**2
    precision = prior + 1 / se**2
    mean = (prior_mean * prior + estimate / se**2) / precision
    std = float(np.sqrt(1 / precision))
    z = float(stats.norm.isf(alpha / 2))
    chance = float(stats.norm.cdf(mean / std))
    gain = mean * chance + std * float(stats.norm.pdf(mean / std))  # E max(effect, 0)
    return Posterior(mean, std, mean - z * std, mean + z * std, chance, gain, gain - mean)
