"""One formula with weights of its own in each segment of requests: a scenario, a cohort, whatever the context names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from core.artefacts import Artefact
from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.formula_strategy import FormulaStrategy
from fusion.fused import NO_CONTEXT, Fused


class SegmentedFormula:
    """A formula strategy for everybody, and the weights that replace its own where the context's `column` has a known value.

    >>> import numpy as np
    >>> from fusion.formula import Formula
    >>> f = Formula.parse("w * click - like", tasks=["click", "like"], params=["w"])
    >>> strategy = SegmentedFormula("scenario", FormulaStrategy(f, {"w": 1.0}), {"search": {"w": 3.0}})
    >>> table = ScoreTable(("click", "like"), np.array([[0.5, 0.25]]))
    >>> [strategy.fuse(table, {"scenario": name}).final.tolist() for name in ("search", "feed")]
    [[1.25], [0.25]]
    """

    kind: ClassVar[str] = "segmented_formula"

    def __init__(self, column: str, overall: FormulaStrategy, segments: Mapping[str, Mapping[str, float]]) -> None:
        if not column.isidentifier():
            raise ConfigError(f"segment column {column!r} is not a name; use a name of the request's context, such as scenario")
        self.column, self.overall = column, overall
        self.segments = {
            str(value): FormulaStrategy(overall.formula, weights, overall.calibration) for value, weights in segments.items()
        }

    @property
    def requires(self) -> frozenset[str]:
        """The tasks the formula reads."""
        return self.overall.requires

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request; see `FormulaStrategy.fuse`."""
        return self.segments.get(str(context.get(self.column)), self.overall).fuse(scores, context)

    def explain(self, scores: ScoreTable, item: int, context: Mapping[str, Any] = NO_CONTEXT) -> Mapping[str, float]:
        """One item's contribution by task; see `FormulaStrategy.explain`."""
        return self.segments.get(str(context.get(self.column)), self.overall).explain(scores, item, context)

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        config, files = self.overall.to_files()
        return {**config, "column": self.column, "segments": {value: s.weights for value, s in self.segments.items()}}, files

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        return cls(artefact.config["column"], FormulaStrategy.from_artefact(artefact), artefact.config["segments"])
