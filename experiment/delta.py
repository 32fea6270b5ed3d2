"""The relative effect of ratios of means by the delta method, with or without a pre-period as covariate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from experiment.effects import NAN


@dataclass(frozen=True, slots=True)
class Relative:
    """A relative effect with its standard error, symmetric bounds and two-sided p-value (t with Welch's degrees of freedom)."""

    value: float
    low: float
    high: float
    se: float
    p_value: float
    df: float


def relative_effect(
    control: Any,
    treatment: Any,
    numer: str,
    denom: str | None = None,
    numer_before: str | None = None,
    denom_before: str | None = None,
    *,
    alpha: float = 0.05,
) -> Relative:
    """Adjusted difference over the control's unadjusted value.

    With r a bucket's ratio, p its ratio before, D = (r_b - s p_b) - (r_a - s p_a) and f = D / r_a, the delta method gives
    `Var f = [V(r_b - s p_b) + (1 + f)^2 V(r_a) + s^2 V(p_a) - 2 (1 + f) s C(r_a, p_a)] / r_a^2`; the slope s is pooled
    within the buckets.

    Args:
        control, treatment: tea-tasting's `Aggregates`.
        numer, denom: Columns of the ratio; a mean has no `denom`.
        numer_before, denom_before: The same before the experiment; None without CUPED.

    References:
        Deng, Knoblich, Lu 2018, Applying the Delta Method in Metric Analytics; Deng et al. 2013 (CUPED).
    """
    n_a, n_b = control.count(), treatment.count()
    r_a, r_b = (arm.mean(numer) / arm.mean(denom) for arm in (control, treatment))
    v_a, v_b = (arm.ratio_var(numer, denom) for arm in (control, treatment))
    slope = p_a = p_b = q_a = q_b = c_a = c_b = 0.0
    if numer_before is not None:
        q_a, q_b = (arm.ratio_var(numer_before, denom_before) for arm in (control, treatment))
        c_a, c_b = (arm.ratio_cov(numer, denom, numer_before, denom_before) for arm in (control, treatment))
        p_a, p_b = (arm.mean(numer_before) / arm.mean(denom_before) for arm in (control, treatment))
        weight = n_a * q_a + n_b * q_b
        slope = (n_a * c_a + n_b * c_b) / weight if weight > 0 else 0.0
    if not r_a > 0:
        return Relative(NAN, NAN, NAN, NAN, NAN, NAN)
    value = ((r_b - slope * p_b) - (r_a - slope * p_a)) / r_a
    up = 1 + value
    var_b = (v_b + slope**2 * q_b - 2 * slope * c_b) / n_b
    var_a = (up**2 * v_a + slope**2 * q_a - 2 * up * slope * c_a) / n_a
    plain_a = (v_a + slope**2 * q_a - 2 * slope * c_a) / n_a
    se = float(np.sqrt(max(var_a + var_b, 0.0)) / r_a)
    if not se > 0 or min(n_a, n_b) < 2:
        return Relative(value, NAN, NAN, NAN, NAN, NAN)
    df = float((plain_a + var_b) ** 2 / (plain_a**2 / (n_a - 1) + var_b**2 / (n_b - 1)))
    half = float(stats.t.isf(alpha / 2, df)) * se
    return Relative(value, value - half, value + half, se, float(2 * stats.t.sf(abs(value) / se, df)), df)
