"""A/A and A/B simulation by resampling: does a metric keep its error rate, and what power has it, on your own units?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from core.arrays import Floats, Ints
from core.errors import ConfigError, DataError
from experiment.sequential import FIRST_LOOK, half_width


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """p-values `[n_runs]` of the simulated comparisons, and the share under alpha."""

    p_values: Floats
    alpha: float

    @property
    def rejected(self) -> float:
        """Share of runs that found a difference: the false-positive rate of an A/A, the power of an A/B."""
        return float((self.p_values < self.alpha).mean())

    @property
    def expected_range(self) -> tuple[float, float]:
        """Three standard errors around alpha: where an A/A's share of rejections must lie."""
        half = 3 * float(np.sqrt(self.alpha * (1 - self.alpha) / len(self.p_values)))
        return self.alpha - half, self.alpha + half


def simulate_aa(
    numerator: Floats,
    denominator: Floats | None = None,
    *,
    before: Floats | None = None,
    n_runs: int = 10_000,
    share: float = 0.5,
    lift: float = 0.0,
    alpha: float = 0.05,
    seed: int = 0,
) -> SimulationResult:
    """Split the units at random, again and again, and test the two halves as a readout does.

    All runs are worked out together: a run is a column of random signs, and the sums of both halves for many runs are one
    matrix product. The test is Welch's on the mean, or on the ratio by the delta method, CUPED-adjusted when `before` is given.

    Args:
        numerator: `[n]`, a number per unit.
        denominator: `[n]` for a ratio; None for a mean.
        before: `[n]`, the covariate (of a mean only).
        lift: Relative effect put on the numerator of the second half; 0 is an A/A.

    Raises:
        DataError: Fewer than ten units, or a value that is not finite.
    """
    n = len(numerator)
    if n < 10 or not np.isfinite(numerator).all():
        raise DataError(f"{n} units; a simulation needs at least 10, each with a finite value")
    if denominator is not None and before is not None:
        raise ConfigError("a covariate goes with a mean; leave out `denominator` or `before`")
    rng = np.random.default_rng(seed)
    second = np.ones(n) if denominator is None else np.asarray(denominator, float)
    if before is None:
        before = np.zeros(n)
    x, y, z = np.asarray(numerator, float), second, np.asarray(before, float)
    columns = np.stack([np.ones(n), x, y, z, x * x, y * y, z * z, x * y, x * z])  # (9, n)
    totals = columns.sum(axis=1)
    p_values = np.empty(n_runs)
    block = max(1, 20_000_000 // n)
    for start in range(0, n_runs, block):
        size = min(block, n_runs - start)
        chosen = (rng.random((n, size), dtype=np.float32) < share).astype(np.float32)  # (n, runs)
        sums = columns.astype(np.float64) @ chosen  # (9, runs)
        p_values[start : start + size] = _p_values(totals[:, None] - sums, sums, lift, denominator is not None)
    return SimulationResult(p_values, alpha)


def _p_values(a: Floats, b: Floats, lift: float, ratio: bool) -> Floats:
    """Welch's test of every run from the sums of its halves, `[9, runs]` each."""
    b = b.copy()
    b[[1, 7, 8]] *= 1 + lift
    b[4] *= (1 + lift) ** 2
    slope = _slope(a + b)
    values, variances = [], []
    for half in (a, b):
        n = half[0]
        mean = half[1:4] / n
        var_x, var_y, var_z = ((half[4 + i] / n - mean[i] ** 2) * n / (n - 1) for i in range(3))
        cov_xy, cov_xz = ((half[7 + i] / n - mean[0] * mean[1 + i]) * n / (n - 1) for i in range(2))
        if ratio:
            value = mean[0] / mean[1]
            variance = (var_x - 2 * value * cov_xy + value**2 * var_y) / mean[1] ** 2
        else:
            value = mean[0] - slope * mean[2]
            variance = var_x - 2 * slope * cov_xz + slope**2 * var_z
        values.append(value)
        variances.append((variance / n, n))
    (va, na), (vb, nb) = variances
    df = (va + vb) ** 2 / (va**2 / (na - 1) + vb**2 / (nb - 1))
    p_values: Floats = 2 * stats.t.sf(np.abs(values[1] - values[0]) / np.sqrt(va + vb), df)
    return p_values


def _slope(total: Floats) -> Floats:
    n = total[0]
    var_z = total[6] / n - (total[3] / n) ** 2
    cov_xz = total[8] / n - total[1] * total[3] / n**2
    slope: Floats = np.divide(cov_xz, var_z, out=np.zeros_like(var_z), where=var_z > 0)
    return slope


def simulate_peeking(
    visits: Ints, values: Floats, unit: Ints, *, looks: Ints, n_runs: int = 1000, window: int = 1, seed: int = 0
) -> Floats:
    """Share of A/A runs in which any daily look at the confidence sequence finds a difference; see the tests for its use.

    Every unit enters at its first visit; its number is the sum of its values in the `window` days from there, and it is looked
    at once that window is over.

    Args:
        visits: `[n]` day of every visit; values, unit: `[n]` what it brought and whose it was (from 0).
        looks: Days at whose end one looks.

    Returns:
        `[n_runs]` whether a run ever rejected.
    """
    rng = np.random.default_rng(seed)
    n_units = int(unit.max()) + 1
    first = np.full(n_units, np.iinfo(np.int64).max)
    np.minimum.at(first, unit, visits)
    inside = visits < first[unit] + window
    value = np.bincount(unit[inside], values[inside], n_units)
    ready = first + window - 1
    order = np.argsort(ready, kind="stable")
    value, ready = value[order], ready[order]
    ends = np.searchsorted(ready, looks, side="right")
    rejected: Floats = np.zeros(n_runs)
    for run in range(n_runs):
        treated = rng.random(n_units) < 0.5
        sums = [np.cumsum(np.where(treated == side, part, 0)) for side in (False, True) for part in (1.0, value, value**2)]
        n_a, s_a, q_a, n_b, s_b, q_b = (np.concatenate([[0.0], part])[ends] for part in sums)
        seen = np.minimum(n_a, n_b) >= FIRST_LOOK
        if not seen.any():
            continue
        n_a, s_a, q_a, n_b, s_b, q_b = (part[seen] for part in (n_a, s_a, q_a, n_b, s_b, q_b))
        variance = (q_a / n_a - (s_a / n_a) ** 2) / (n_a - 1) + (q_b / n_b - (s_b / n_b) ** 2) / (n_b - 1)
        rejected[run] = (np.abs(s_b / n_b - s_a / n_a) > half_width(variance, n_a + n_b)).any()
    return rejected
