"""Many metrics and arms at once: p-values adjusted for the false discovery rate or the family-wise error rate."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError

K = TypeVar("K", bound=Hashable)


def bonferroni(p: Floats) -> Floats:
    """`p m`, at most 1."""
    return np.minimum(p * len(p), 1.0)


def holm(p: Floats) -> Floats:
    """Holm's step-down (family-wise error).

    >>> holm(np.array([0.01, 0.04])).tolist()
    [0.02, 0.04]
    """
    order = np.argsort(p)
    m = len(p)
    stepped = np.minimum(np.maximum.accumulate(p[order] * (m - np.arange(m))), 1.0)
    return _unsorted(stepped, order)


def hommel(p: Floats) -> Floats:
    """Hommel's closed Simes procedure (family-wise error, valid as Simes' test is; Wright 1992)."""
    m = len(p)
    order = np.argsort(p)
    ordered = p[order]
    adjusted = np.full(m, float(np.min(m * ordered / np.arange(1, m + 1)))) if m else ordered.copy()
    best = adjusted.copy()
    for size in range(m - 1, 1, -1):
        tail = np.arange(m - size + 1, m)
        head = np.arange(m - size + 1)
        smallest = float(np.min(size * ordered[tail] / np.arange(2, size + 1)))
        best[head] = np.minimum(size * ordered[head], smallest)
        best[tail] = best[m - size]
        adjusted = np.maximum(adjusted, best)
    return _unsorted(np.maximum(adjusted, ordered), order)


def benjamini_hochberg(p: Floats) -> Floats:
    """False discovery rate under independence or positive dependence (Benjamini & Hochberg 1995)."""
    return _step_up(p, 1.0)


def benjamini_yekutieli(p: Floats) -> Floats:
    """False discovery rate under any dependence (Benjamini & Yekutieli 2001)."""
    return _step_up(p, float(np.sum(1 / np.arange(1, len(p) + 1))))


METHODS: Mapping[str, Callable[[Floats], Floats]] = {
    "bonferroni": bonferroni,
    "holm": holm,
    "hommel": hommel,
    "fdr_bh": benjamini_hochberg,
    "fdr_by": benjamini_yekutieli,
    "fdr": benjamini_hochberg,
    "fwer": holm,
    "none": lambda p: p,
}


def adjust(p_values: Mapping[tuple[str, K], float], method: str, *, primary: str | None = None) -> dict[tuple[str, K], float]:
    """Adjusted p-values by (metric, arm). NaN stays NaN and does not count.

    The primary metric is one family (its arms, by Holm, as the decision hangs on it), all other metrics another.

    >>> adjust({("likes", "b"): 0.03, ("ctr", "b"): 0.01}, "fdr", primary="likes")
    {('likes', 'b'): 0.03, ('ctr', 'b'): 0.01}
    """
    if method not in METHODS:
        raise ConfigError(f"correction {method!r} is not one of {', '.join(METHODS)}")
    families: Sequence[tuple[list[tuple[str, K]], str]] = (
        ([key for key in p_values if key[0] == primary], "none" if method == "none" else "holm"),
        ([key for key in p_values if key[0] != primary], method),
    )
    adjusted = {}
    for keys, how in families:
        known = [key for key in keys if not np.isnan(p_values[key])]
        values = METHODS[how](np.array([p_values[key] for key in known]))
        adjusted.update(dict(zip(known, values.tolist(), strict=True)))
    return {key: adjusted.get(key, float("nan")) for key in p_values}


def _step_up(p: Floats, factor: float) -> Floats:
    order = np.argsort(p)
    m = len(p)
    scaled = p[order] * m * factor / np.arange(1, m + 1)
    return _unsorted(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0), order)


def _unsorted(values: Floats, order: np.typing.NDArray[np.intp]) -> Floats:
    out = np.empty_like(values)
    out[order] = values
    return out
