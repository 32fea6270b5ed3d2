"""Power: how many units, or how many more days, an effect needs to be seen."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from core.errors import ConfigError
from experiment.effects import Effect


def units_needed(effect: float, std: float, *, alpha: float = 0.05, power: float = 0.8, ratio: float = 1.0) -> float:
    """Units in the control so that a two-sided t-test finds `effect` with probability `power`; the treatment gets `ratio` times.

    >>> round(units_needed(0.2, 1.0), 3)
    393.406
    """
    _check(alpha, power)
    if effect == 0 or std < 0:
        raise ConfigError(f"effect {effect} must differ from 0 and std {std} must not be negative")

    def missing(n: float) -> float:
        df = n * (1 + ratio) - 2
        shift = abs(effect) / (std * np.sqrt(1 / n + 1 / (n * ratio)))
        critical = stats.t.isf(alpha / 2, df)
        return float(stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift) - power)

    rough = (stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) ** 2 * (std / effect) ** 2 * (1 + 1 / ratio)
    return float(optimize.brentq(missing, max(rough * 0.5, 2.0), rough * 2 + 20, xtol=1e-10, rtol=1e-12))


def units_needed_for_shares(control: float, treatment: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Units per bucket to tell two shares apart, on Cohen's arcsine scale.

    >>> round(units_needed_for_shares(0.10, 0.11), 1)
    14744.1
    """
    _check(alpha, power)
    h = 2 * np.arcsin(np.sqrt(treatment)) - 2 * np.arcsin(np.sqrt(control))
    if h == 0 or not 0 <= min(control, treatment) <= max(control, treatment) <= 1:
        raise ConfigError(f"shares {control} and {treatment} must differ and lie between 0 and 1")

    def missing(n: float) -> float:
        shift = abs(h) * np.sqrt(n / 2)
        critical = stats.norm.isf(alpha / 2)
        return float(stats.norm.sf(critical - shift) + stats.norm.cdf(-critical - shift) - power)

    rough = 2 * ((stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) / h) ** 2
    return float(optimize.brentq(missing, rough * 0.5, rough * 2 + 10, xtol=1e-10, rtol=1e-12))


def detectable(se: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest difference that a standard error lets one see with probability `power`."""
    _check(alpha, power)
    return float((stats.norm.isf(alpha / 2) + stats.norm.ppf(power)) * se)


def days_needed(effect: Effect, days: float, *, target: float | None = None, alpha: float = 0.05, power: float = 0.8) -> float:
    """More days at this traffic until a difference of `target` (1 % of the control by default) can be seen; 0 when it can be now.

    The standard error is taken to shrink with the root of time, as it does while new units arrive at a steady rate.
    """
    wanted = abs(0.01 * effect.control if target is None else target)
    if not np.isfinite(effect.se) or not np.isfinite(days) or wanted == 0 or effect.se <= 0:
        return float("nan")
    return float(max(days * ((detectable(effect.se, alpha=alpha, power=power) / wanted) ** 2 - 1), 0.0))


def _check(alpha: float, power: float) -> None:
    if not 0 < alpha < power < 1:
        raise ConfigError(f"alpha {alpha} and power {power} must satisfy 0 < alpha < power < 1")
