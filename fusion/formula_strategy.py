"""The formula strategy: a formula with its weights, over calibrated scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from core.artefacts import Artefact
from core.scores import ScoreTable
from fusion import calibrate
from fusion.calibrate import SCENARIO, Calibration
from fusion.formula import Formula
from fusion.formula.explain import explain
from fusion.formula.families import weighted_sum_of
from fusion.fused import NO_CONTEXT, Fused


class FormulaStrategy:
    """A formula with its weights, over scores that are calibrated first when a calibration is given.

    >>> import numpy as np
    >>> f = Formula.parse("w_click * click + w_like * like", tasks=["click", "like"], params=["w_click", "w_like"])
    >>> strategy = FormulaStrategy(f, {"w_click": 1.0, "w_like": 10.0})
    >>> strategy.fuse(ScoreTable(("click", "like"), np.array([[0.5, 0.0], [0.4, 0.1]]))).final.tolist()
    [0.5, 1.4]
    """

    kind: ClassVar[str] = "formula"

    def __init__(self, formula: Formula, weights: Mapping[str, float], calibration: Calibration | None = None) -> None:
        self.formula = formula
        self._params = formula.check_params(weights)
        self.weights: dict[str, float] = {name: float(value) for name, value in self._params.items()}
        self.calibration = calibration

    @property
    def requires(self) -> frozenset[str]:
        """The tasks the formula reads."""
        return self.formula.requires

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request.

        Raises:
            ConfigError: The scores lack a task.
            DataError: The context lacks a name, or a result is not finite and the formula declares no floor.
        """
        if self.calibration is not None:
            scores = self._calibrated(scores, context)
        final, n_nonfinite = self.formula.final(scores, self._params, context)
        return Fused(final, dict(self.weights), 1.0, n_nonfinite)

    @classmethod
    def from_plain(cls, value: Mapping[str, Any], tasks: Sequence[str]) -> Self:
        """A strategy from a formula as a person writes it: `text`, and if it has them `weights`, `context`, `nonfinite`.

        Raises:
            ConfigError: The text is not a formula over these names; the error names the position.

        >>> plain = {"text": "w * click + hour", "weights": {"w": 2.0}, "context": ["hour"]}
        >>> FormulaStrategy.from_plain(plain, ["click", "like"]).formula
        Formula('w * click + hour')
        """
        weights = value.get("weights") or {}
        formula = Formula.parse(
            value["text"],
            tasks=tasks,
            params=list(weights),
            context=value.get("context") or (),
            nonfinite=value.get("nonfinite", "error"),
        )
        return cls(formula, weights)

    def explain(self, scores: ScoreTable, item: int, context: Mapping[str, Any] = NO_CONTEXT) -> Mapping[str, float]:
        """One item's contribution by task, and `base`: they add up to its final, or to log(final) for a product."""
        if self.calibration is not None:
            scores = self._calibrated(scores, context)
        found = explain(self.formula, scores, item, self.weights, context)
        return {"base": found.base, **found.contributions}

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        about, files = calibrate.to_files(self.calibration)
        return {"formula": self.formula.to_json(), "weights": self.weights, **about}, files

    def _calibrated(self, scores: ScoreTable, context: Mapping[str, Any]) -> ScoreTable:
        assert self.calibration is not None, "asked for only where there is one"
        scenario = context.get(SCENARIO)
        return self.calibration.apply(scores, self.formula.tasks, scenario=None if scenario is None else str(scenario))

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        config = artefact.config
        return cls(Formula.from_json(config["formula"]), config["weights"], calibrate.from_artefact(artefact))


def hand_set_strategy(weights: Mapping[str, float], calibration: Calibration | None = None) -> FormulaStrategy:
    """sum_k w_k * calibrated p_k with declared weights by task: the control every search is compared with.

    >>> hand_set_strategy({"click": 1.0, "like": 5.0}).formula.text
    'w_click * click + w_like * like'
    """
    return FormulaStrategy(weighted_sum_of(weights), {f"w_{task}": weight for task, weight in weights.items()}, calibration)
