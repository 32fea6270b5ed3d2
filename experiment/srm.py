"""Sample-ratio mismatch: do the buckets hold the shares the plan gave them, for any number of buckets?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

SRM_LIMIT = 0.001  # under this the assignment or the log is broken, and no effect can be trusted


def srm_p_value(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """Pearson's chi-squared test of the unit counts against the planned weights; NaN without two buckets or any unit.

    >>> round(srm_p_value({"a": 1000, "b": 1200}, {"a": 0.5, "b": 0.5}), 8)
    2.008e-05
    """
    names = [name for name, weight in weights.items() if weight > 0]
    observed = np.array([counts.get(name, 0) for name in names], float)
    share = np.array([weights[name] for name in names])
    if len(names) < 2 or observed.sum() == 0:
        return float("nan")
    expected = share / share.sum() * observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, len(names) - 1))
