"""Strategies as artefacts: published whole, loaded by kind; and the door to what a strategy is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.artefacts import Artefact, ArtefactStore, json_bytes
from core.errors import ArtefactError, ConfigError
from fusion.formula_strategy import FormulaStrategy, hand_set_strategy
from fusion.fused import Fused, FusionStrategy, Publishable
from fusion.learned.network import MonotoneNetwork
from fusion.learned.trees import LambdaMart
from fusion.policy.strategy import PolicyStrategy
from fusion.rank_fusion import RankFusion
from fusion.segmented_strategy import SegmentedFormula

__all__ = ["FormulaStrategy", "Fused", "FusionStrategy", "Publishable", "hand_set_strategy", "load_strategy", "publish"]


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


STRATEGIES: Mapping[str, type[Publishable]] = {
    "formula": FormulaStrategy,
    "segmented_formula": SegmentedFormula,
    "rank_fusion": RankFusion,
    "lambdamart": LambdaMart,
    "monotone_network": MonotoneNetwork,
    "policy": PolicyStrategy,
}
