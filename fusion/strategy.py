"""A fusion strategy: pure, picklable, from per-task scores to final scores; published as an artefact and loaded by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from core.arrays import AnyArray, Floats
from core.artefacts import Artefact, ArtefactStore, json_bytes, tensors
from core.errors import ArtefactError, ConfigError
from core.scores import ScoreTable
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.families import weighted_sum_of

NO_CONTEXT: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Fused:
    """What a strategy answers.

    Args:
        final: `[n_items]`, finite; higher ranks first.
        weights: The parameters that were used, by name.
        propensity: Density (or probability) of the action behind them; 1 for a deterministic strategy.
        n_nonfinite: Results that the formula's floor replaced.
    """

    final: Floats
    weights: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    n_nonfinite: int = 0


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


STRATEGIES: Mapping[str, type[Publishable]] = {"formula": FormulaStrategy}
