"""Off-policy estimators for single decisions: IPS, SNIPS, DM, DR, SNDR, SWITCH-DR and DRos.

Every estimator is a smooth function of means over rows, so it returns `Moments`: what to average, and how to combine the
means. The value, its user bootstrap and its diagnostics all come from that one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.arrays import AnyArray, Floats
from core.errors import DataError


@dataclass(frozen=True, slots=True)
class Moments:
    """An estimate as `combine(terms.mean(0))`.

    Attributes:
        terms: `[n, m]`, one row a unit (a decision, or a session).
        combine: Means `[..., m]` -> values `[...]`.
        weight: `[n]` importance weights that the estimate rests on (for the diagnostics); all 1 where it uses none.
        n_capped: Rows whose weight was cut.
    """

    terms: Floats
    combine: Callable[[Floats], Floats]
    weight: Floats
    n_capped: int = 0

    @property
    def value(self) -> float:
        """The estimate; NaN when it divides by nothing."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(self.combine(self.terms.mean(0)))


@dataclass(frozen=True, slots=True)
class Decisions:
    """`n` logged decisions and what a target policy would have done. All arrays `[n]`.

    Attributes:
        reward: What followed.
        propensity: Probability or density of the logged action under the logging policy, above 0.
        target: The same under the target policy.
        q_logged: A model's expected reward of the logged action (direct method); zeros for a purely weighted estimate.
        q_target: The model's expected reward under the target policy, `sum_a pi(a|x) q(x, a)`.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    q_logged: Floats
    q_target: Floats

    def __post_init__(self) -> None:
        names = ("reward", "propensity", "target", "q_logged", "q_target")
        arrays = [np.asarray(getattr(self, name), np.float64) for name in names]
        for name, array in zip(names, arrays, strict=True):
            if array.shape != arrays[0].shape or array.ndim != 1:
                raise DataError(f"{name} has shape {array.shape}; all must be [n] like reward {arrays[0].shape}")
            object.__setattr__(self, name, array)
        if not (self.propensity > 0).all():
            n_bad = int((~(self.propensity > 0)).sum())
            raise DataError(f"{n_bad} of {len(self.reward)} propensities are not above 0; log them, or use `dm`")

    @property
    def weight(self) -> Floats:
        """Importance weights `target / propensity`, `[n]`."""
        ratio: Floats = self.target / self.propensity
        return ratio


def ips(d: Decisions) -> Moments:
    """Inverse propensity scoring: `V = mean_i w_i r_i`, `w_i = pi(a_i|x_i) / pi_0(a_i|x_i)`.

    Unbiased where the logging policy can take every action of the target (Horvitz & Thompson 1952; Strehl et al. 2010).

    >>> ips(Decisions(*np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.25], [0, 0], [0, 0]]))).value
    1.0
    """
    w = d.weight
    return Moments((w * d.reward)[:, None], _first, w)


def snips(d: Decisions) -> Moments:
    """Self-normalised IPS: `V = sum_i w_i r_i / sum_i w_i`. Biased, consistent, stays within the rewards' range
    (Swaminathan & Joachims 2015).

    >>> snips(Decisions(*np.array([[1.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0, 0], [0, 0]]))).value
    0.75
    """
    w = d.weight
    return Moments(np.stack([w * d.reward, w], 1), _ratio, w)


def dm(d: Decisions) -> Moments:
    """Direct method: `V = mean_i sum_a pi(a|x_i) q(x_i, a)`. No variance from weights, all of the model's bias
    (Beygelzimer & Langford 2009).

    >>> dm(Decisions(*np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.5], [0, 0], [0.25, 0.75]]))).value
    0.5
    """
    return Moments(d.q_target[:, None], _first, np.ones(len(d.reward)))


def dr(d: Decisions) -> Moments:
    """Doubly robust: `V = mean_i [q(x_i, pi) + w_i (r_i - q(x_i, a_i))]`. Unbiased if the propensities or the model are right
    (Dudik, Langford & Li 2011).

    >>> dr(Decisions(*np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.5], [0.5, 0.0], [0.5, 0.5]]))).value
    1.0
    """
    w = d.weight
    return Moments((d.q_target + w * (d.reward - d.q_logged))[:, None], _first, w)


def sndr(d: Decisions) -> Moments:
    """Self-normalised DR: `V = mean_i q(x_i, pi) + sum_i w_i (r_i - q(x_i, a_i)) / sum_i w_i` (Thomas & Brunskill 2016)."""
    w = d.weight
    return Moments(np.stack([d.q_target, w * (d.reward - d.q_logged), w], 1), lambda m: m[..., 0] + m[..., 1] / m[..., 2], w)


def switch_dr(d: Decisions, *, tau: float = 20.0) -> Moments:
    """SWITCH-DR: `V = mean_i [q(x_i, pi) + 1{w_i <= tau} w_i (r_i - q(x_i, a_i))]`: the model alone where weights are large
    (Wang, Agarwal & Dudik 2017)."""
    w = np.where(d.weight <= tau, d.weight, 0.0)
    return Moments((d.q_target + w * (d.reward - d.q_logged))[:, None], _first, w, int((d.weight > tau).sum()))


def dros(d: Decisions, *, lam: float = 20.0) -> Moments:
    """DR with optimistic shrinkage: `w_i` is replaced by `lam w_i / (w_i^2 + lam)`; lam -> 0 is DM, lam -> infinity is DR
    (Su, Dimakopoulou, Krishnamurthy & Dudik 2020)."""
    w = lam * d.weight / (d.weight**2 + lam)
    return Moments((d.q_target + w * (d.reward - d.q_logged))[:, None], _first, w, int((d.weight**2 > lam).sum()))


BANDIT: Final[Mapping[str, Callable[[Decisions], Moments]]] = {
    "ips": ips,
    "snips": snips,
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": switch_dr,
    "dros": dros,
}


def _first(means: Floats) -> Floats:
    value: Floats = means[..., 0]
    return value


def _ratio(means: AnyArray) -> Floats:
    value: Floats = means[..., 0] / means[..., 1]
    return value
