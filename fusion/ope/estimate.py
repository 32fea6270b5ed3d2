"""One estimate of one policy: a value with its interval and diagnostics, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import Any, Final, Self

# status -> what to do about it
STATUSES: Final[Mapping[str, str]] = {
    "ok": "the estimate can be read",
    "no_propensity": "the log does not say how likely its actions were; log propensities, or take a model-based estimator",
    "no_density": "the policy acts without noise, so an action has no density; declare its noise, or lay a kernel over it",
    "no_candidates": "the log does not hold the candidates' scores; log them where a bucket explores",
    "no_position_rewards": "the log does not say which position earned what; log feedback with the item that it is about",
    "no_fusion": "nobody said how actions rank candidates, which slate weights need",
    "too_little_overlap": "the log hardly ever did what the policy does; explore nearer to the policy",
    "not_converged": "the fitted values do not settle; use fewer features, a larger ridge or a discount below 1",
    "cut_sessions": "sessions were cut, and weights say nothing of what would have followed; take fitted Q (fqe, fqe_action)",
    "many_pages": "sessions have several pages; estimators of single decisions need every page taken as one (--pages)",
    "other_tasks": "the policy weighs other parameters than the log's; evaluate it on a log of its own kind",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an estimator says of a policy.

    Attributes:
        value, low, high: Mean return of a session (or reward of a page) with its 95 % interval; NaN unless `status` is `ok`.
        n: Units (sessions or pages) it rests on.
        effective: Effective number of them, by the weights.
        largest: The largest weight as a share of all weights.
        capped: Share of units whose weight was cut.
        reach: How far the policy's actions lie beyond the logged ones in the model's features (1: where the log was); NaN without
            a model.
        note: What else to know.
    """

    policy: str
    estimator: str
    status: str
    value: float = nan
    low: float = nan
    high: float = nan
    n: int = 0
    effective: float = nan
    largest: float = nan
    capped: float = 0.0
    reach: float = nan
    note: str = ""

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status
        assert self.status == "ok" or not isfinite(self.value), "an estimate that may not be read has no value"

    @classmethod
    def empty(cls, policy: str, estimator: str, status: str, **known: Any) -> Self:
        """No value, and why."""
        return cls(policy, estimator, status, **{"note": STATUSES[status], **known})

    def to_json(self) -> dict[str, Any]:
        """Plain values; what could not be computed is null."""
        return {name: None if isinstance(x, float) and not isfinite(x) else x for name, x in asdict(self).items()}
