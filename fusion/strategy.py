"""The formula strategy, and strategies as artefacts: published whole, loaded by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from core.arrays import AnyArray
from core.artefacts import Artefact, ArtefactStore, json_bytes, tensors
from core.errors import ArtefactError, ConfigError
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.families import weighted_sum_of
from fusion.fused import NO_CONTEXT, Fused, FusionStrategy, Publishable
from fusion.rank_fusion import RankFusion

__all__ = ["FormulaStrategy", "Fused", "FusionStrategy", "Publishable", "hand_set_strategy", "load_strategy", "publish"]


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
            scores = self.calibration.apply(scores, self.formula.tasks)
        final, n_nonfinite = self.formula.final(scores, self._params, context)
        return Fused(final, dict(self.weights), 1.0, n_nonfinite)

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        config = {"formula": self.formula.to_json(), "weights": self.weights}
        if self.calibration is None:
            return config, {}
        about, arrays = self.calibration.to_arrays()
        return {**config, "calibration": about}, {"calibration.safetensors": tensors(arrays)}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        config = artefact.config
        calibration = None
        if "calibration" in config:
            arrays: dict[str, AnyArray] = artefact.read_tensors("calibration.safetensors")
            calibration = Calibration.from_arrays(config["calibration"], arrays)
        return cls(Formula.from_json(config["formula"]), config["weights"], calibration)


def hand_set_strategy(weights: Mapping[str, float], calibration: Calibration | None = None) -> FormulaStrategy:
    """sum_k w_k * calibrated p_k with declared weights by task: the control every search is compared with.

    >>> hand_set_strategy({"click": 1.0, "like": 5.0}).formula.text
    'w_click * click + w_like * like'
    """
    return FormulaStrategy(weighted_sum_of(weights), {f"w_{task}": weight for task, weight in weights.items()}, calibration)


def publish(
    store: ArtefactStore,
    name: str,
    strategy: Publishable,
    *,
    ranker: str | None = None,
    seed: int | None = None,
    data_fingerprint: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    created_at: str | None = None,
) -> Artefact:
    """Write a strategy as a new version of artefact kind `strategy`.

    Args:
        ranker: Label of the ranker artefact whose scores it was made for: its parent.
        metrics: How good it is, as JSON values.
        search: How it was found (a `SearchResult.summary()`), kept in the configuration.
    """
    if type(strategy).kind not in STRATEGIES:
        raise ConfigError(f"strategy kind {type(strategy).kind!r} cannot be published; kinds are {', '.join(STRATEGIES)}")
    config, files = strategy.to_files()
    config = {"strategy": type(strategy).kind, "requires": sorted(strategy.requires), **config}
    if search is not None:
        config["search"] = dict(search)
    return store.publish(
        "strategy",
        name,
        {"strategy.json": json_bytes(config), **files},
        config=config,
        seed=seed,
        data_fingerprint=data_fingerprint,
        parents={"ranker": ranker} if ranker else None,
        metrics=metrics,
        created_at=created_at,
    )


def load_strategy(artefact: Artefact) -> FusionStrategy:
    """The strategy of an artefact.

    Raises:
        ArtefactError: It is of another kind, damaged, or of a strategy kind this version does not know.
    """
    if artefact.kind != "strategy":
        raise ArtefactError(f"{artefact.label} is a {artefact.kind}; a fusion needs an artefact of kind strategy")
    if artefact.read_json("strategy.json") != artefact.config:
        raise ArtefactError(f"{artefact.label}: strategy.json and the manifest's config differ; publish it again")
    kind = artefact.config.get("strategy")
    if not isinstance(kind, str) or kind not in STRATEGIES:
        raise ArtefactError(f"{artefact.label}: unknown strategy kind {kind!r}; kinds are {', '.join(STRATEGIES)}")
    try:
        return STRATEGIES[kind].from_artefact(artefact)
    except (KeyError, TypeError, ConfigError) as error:
        raise ArtefactError(f"{artefact.label} cannot be read: {error}; publish it again") from error


STRATEGIES: Mapping[str, type[Publishable]] = {"formula": FormulaStrategy, "rank_fusion": RankFusion}
