"""What a fusion strategy is and what it answers: pure, picklable, from per-task scores to final scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from core.arrays import Floats
from core.artefacts import Artefact
from core.events import Decision
from core.scores import ScoreTable

NO_CONTEXT: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Fused:
    """What a strategy answers.

    Args:
        final: `[n_items]`, finite; higher ranks first.
        weights: The parameters that were used, by name.
        propensity: Density (or probability) of the action behind them; 1 for a deterministic strategy.
        n_nonfinite: Results that the formula's floor replaced.
        note: Why the answer is less than was asked for (a policy without its state); None when it is not.
        decision: What a policy saw and did; None for other strategies.
    """

    final: Floats
    weights: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    n_nonfinite: int = 0
    note: str | None = None
    decision: Decision | None = None


@runtime_checkable
class FusionStrategy(Protocol):
    """Anything that fuses. `requires` are the tasks it reads; `fuse` is deterministic and changes nothing it is given."""

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request."""


class Publishable(FusionStrategy, Protocol):
    """A strategy that can be written to an artefact and read back."""

    kind: ClassVar[str]

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Its configuration (JSON values) and its files."""

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """The inverse of `to_files`."""
