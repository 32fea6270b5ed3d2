"""A release as an artefact: one ranker, the strategies fitted to its scores, the default among them, and how its scores lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.artefacts import Artefact, ArtefactStore, json_bytes
from core.drift import Reference
from core.errors import ArtefactError, ConfigError
from serving.settings import Settings

KIND = "release"
_REFERENCE = "reference.json"


def publish_release(
    store: ArtefactStore,
    name: str,
    *,
    ranker: str,
    strategies: Mapping[str, str],
    default: str,
    reference: Reference | None = None,
    data_fingerprint: str | None = None,
) -> Artefact:
    """Pin what is served together, version by version, as `release/<name>`.

    Args:
        ranker: Its label. strategies: Labels by the name that a plan uses; each carries its own calibration.
        default: The strategy of everybody outside every experiment.
        reference: Distribution of the ranker's scores that the strategies were fitted to, which drift is measured from.

    Raises:
        ConfigError, ArtefactError: Something is not there, a strategy was fitted to another ranker or needs a task this
            one does not score; nothing is published.
    """
    own = store.find(ranker)
    if own.kind != "ranker":
        raise ConfigError(f"{own.label} is a {own.kind}; a release needs a ranker")
    if default not in strategies:
        raise ConfigError(f"default strategy {default!r} is not one of {', '.join(strategies) or 'none'}")
    artefacts = {key: store.find(label) for key, label in strategies.items()}
    check_fit(own.label, artefacts)
    scored = [task["name"] for task in own.read_json("encoder.json")["spec"]["tasks"]]
    for key, artefact in artefacts.items():
        missing = sorted(set(artefact.config.get("requires", ())) - set(scored))
        if missing:
            raise ConfigError(f"strategy {key!r} needs task {missing[0]!r}; {own.label} scores {', '.join(scored)}")
    if reference is not None and not set(reference.tasks) <= set(scored):
        raise ConfigError(f"the reference holds {', '.join(reference.tasks)}; {own.label} scores {', '.join(scored)}")
    labels = {key: artefact.label for key, artefact in artefacts.items()}
    config = {"ranker": own.label, "strategies": labels, "default": default}
    files = {} if reference is None else {_REFERENCE: json_bytes(reference.to_json())}
    parents = {"ranker": own.label, **{f"strategy {key}": label for key, label in labels.items()}}
    return store.publish(KIND, name, files, config=config, parents=parents, data_fingerprint=data_fingerprint)


def check_fit(ranker: str, strategies: Mapping[str, Artefact]) -> None:
    """Refuse strategies that were fitted to the scores of another ranker (one that names no ranker was fitted to none).

    Raises:
        ConfigError: One was.
    """
    for name, artefact in strategies.items():
        if artefact.kind != "strategy":
            raise ConfigError(f"{name!r} is {artefact.label}, a {artefact.kind}; a release fuses by strategies")
        parent = artefact.manifest["parents"].get("ranker")
        if parent is not None and parent != ranker:
            raise ConfigError(
                f"strategy {name!r} was fitted to the scores of {parent}, not of {ranker}; fit it again or serve that"
            )


def reference_of(artefact: Artefact) -> Reference | None:
    """The distribution of scores a release was published with."""
    if artefact.kind != KIND:
        raise ArtefactError(f"{artefact.label} is a {artefact.kind}; scores drift from a release's reference")
    return Reference.from_json(artefact.read_json(_REFERENCE)) if _REFERENCE in artefact.manifest["files"] else None


def named(settings: Settings) -> tuple[Settings, Artefact | None]:
    """The settings with the ranker and strategies of the release they name, the newest version where they name none."""
    if not settings.release:
        return settings, None
    artefact = ArtefactStore(settings.resolve(settings.artefacts)).find(settings.release)
    try:
        config: Mapping[str, Any] = artefact.config
        what = {"ranker": config["ranker"], "strategies": config["strategies"], "default_strategy": config["default"]}
    except KeyError as error:
        raise ArtefactError(f"{artefact.label} lacks {error}; publish it again") from error
    return settings.changed(release="", **what), artefact
