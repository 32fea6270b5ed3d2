"""The asymptotic confidence sequence: an interval that stays valid however often one looks."""

from __future__ import annotations

import numpy as np

from core.arrays import Floats
from experiment.effects import Effect

TUNING = 5000.0  # the number of units at which the interval is tightest
FIRST_LOOK = 500  # units a bucket before the central limit theorem is trusted


def half_width(variance: Floats | float, n: Floats | float, *, alpha: float = 0.05, tuning: float = TUNING) -> Floats:
    """Half the width of the always-valid interval of an estimate.

    `sqrt(V n) sqrt(2 (n r^2 + 1) log(sqrt(n r^2 + 1) / alpha) / (n r)^2)`, with
    `r^2 = (-2 log alpha + log(1 - 2 log alpha)) / tuning`.

    Args:
        variance: Of the estimate, that is its squared standard error.
        n: Units of both buckets together.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, arXiv:2103.06476, theorem 2.2.
    """
    count = np.asarray(n, float)
    rho2 = _rho2(alpha, tuning)
    grown = count * rho2 + 1
    spread = 2 * grown * np.log(np.sqrt(grown) / alpha) / (count**2 * rho2)
    width: Floats = np.sqrt(np.asarray(variance, float) * count) * np.sqrt(spread)
    return width


def always_valid_p(estimate: float, variance: float, n: float, *, alpha: float = 0.05, tuning: float = TUNING) -> float:
    """The p-value that belongs to the confidence sequence: 1 over the mixture's e-value (eq. 155 of the paper), at most 1."""
    rho2 = _rho2(alpha, tuning)
    grown = n * rho2 + 1
    log_e = rho2 * estimate**2 * n / variance / (2 * grown) - 0.5 * np.log(grown)
    return float(min(np.exp(-log_e), 1.0))


def always_valid(effect: Effect, n_control: int, n_treatment: int, *, alpha: float = 0.05, tuning: float = TUNING) -> Effect:
    """An effect whose interval and p-value may be looked at any day; empty before `FIRST_LOOK` units a bucket."""
    if np.isnan(effect.se):
        return effect
    if min(n_control, n_treatment) < FIRST_LOOK:
        return Effect.empty("too_early", control=effect.control, treatment=effect.treatment)
    n = n_control + n_treatment
    half = float(half_width(effect.se**2, n, alpha=alpha, tuning=tuning))
    p_value = always_valid_p(effect.diff, effect.se**2, n, alpha=alpha, tuning=tuning)
    widened = Effect(
        effect.control,
        effect.treatment,
        effect.diff,
        effect.diff - half,
        effect.diff + half,
        effect.se,
        p_value,
        status=effect.status,
    )
    if not np.isfinite(effect.rel_se):
        return widened
    relative = float(half_width(effect.rel_se**2, n, alpha=alpha, tuning=tuning))
    bounds = (effect.rel_diff, effect.rel_diff - relative, effect.rel_diff + relative)
    return widened.with_relative(bounds, effect.rel_se)


def _rho2(alpha: float, tuning: float) -> float:
    return float((-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / tuning)
