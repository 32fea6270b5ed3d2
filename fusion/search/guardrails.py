"""Guardrails: metrics that a search may not pay with, relative to the control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError
from fusion.search.objective import Objective


@dataclass(frozen=True, slots=True)
class Guardrail:
    """metric >= (1 - eps) * control. The metric must be part of the objective (its weight may be 0)."""

    metric: str
    eps: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.eps < 1:
            raise ConfigError(f"guardrail on {self.metric!r}: eps {self.eps} must be at least 0 and below 1")


def violations(guardrails: Sequence[Guardrail], objective: Objective, terms: Floats, control: Floats) -> Floats:
    """How far each vector falls below the guardrails, as a sum of shares of the control `[V]`; 0 is allowed.

    Args:
        terms: `[V, M]`. control: `[M]` terms of the control. A NaN term violates.
    """
    total = np.zeros(len(terms))
    for guard in guardrails:
        if guard.metric not in objective.names:
            raise ConfigError(f"guardrail on {guard.metric!r}; the objective holds {', '.join(objective.names)}")
        column = objective.names.index(guard.metric)
        floor = (1 - guard.eps) * control[column]
        short = (floor - terms[:, column]) / max(abs(control[column]), 1e-12)
        total += np.where(np.isnan(short), 1.0, np.maximum(short, 0.0))
    return total
