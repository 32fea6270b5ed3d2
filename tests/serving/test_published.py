"""A release as an artefact: pins what fits, refuses what was fitted to another ranker, is served by its label, knows drift."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.drift import Reference
from core.errors import ArtefactError, ConfigError, ScorefusionError
from core.events import Request
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, publish
from ranker.predictor import Predictor
from serving import loading
from serving.bootstrap import ensure
from serving.published import named, publish_release, reference_of
from serving.settings import Settings
from tests.serving import small

BOTH = {"hand_set": "strategy/hand_set", "searched": "strategy/searched"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A small service's artefacts; a release of them, its reference the scores of its own log."""
    made = small.make(tmp_path_factory.mktemp("published"))
    artefacts = ArtefactStore(made.resolve(made.artefacts))
    items, users = small.tables()
    scores = Predictor.load(artefacts.find("ranker/small")).score_columns(small.log(items, users).columns)
    reference = Reference.of({task: scores[task] for task in scores.tasks})
    publish_release(artefacts, "prod", ranker="ranker/small", strategies=BOTH, default="searched", reference=reference)
    return replace(made, ranker="", strategies={}, default_strategy="", release="release/prod")


def store(settings: Settings) -> ArtefactStore:
    return ArtefactStore(settings.resolve(settings.artefacts))


def test_it_pins_versions(settings: Settings) -> None:
    """Newer versions of its parts change nothing."""
    text = FormulaStrategy(Formula.parse("like", tasks=["click", "like"]), {})
    publish(store(settings), "hand_set", text, ranker="ranker/small/v1")
    own, artefact = named(settings)
    assert own.strategies == {"hand_set": "strategy/hand_set/v1", "searched": "strategy/searched/v1"}
    assert (own.ranker, own.default_strategy, own.release) == ("ranker/small/v1", "searched", "")
    assert artefact is not None
    assert artefact.label == "release/prod/v1"
    assert named(own) == (own, None)
    assert ensure(settings, progress=False) is settings


def test_it_is_served_by_its_label(settings: Settings) -> None:
    loaded = loading.load(replace(settings, plan=""))
    slate = loaded.engine.rank(Request("r", "7", np.arange(50)))
    assert slate.strategy == "searched"
    assert slate.versions == {
        "release": "release/prod/v1",
        "ranker": "ranker/small/v1",
        "hand_set": "strategy/hand_set/v1",
        "searched": "strategy/searched/v1",
    }
    assert loaded.engine.release.reference is not None
    assert loading.load(settings).engine.rank(Request("r", "7", np.arange(50))).buckets.keys() == {"fusion"}


def test_weights_fitted_to_another_ranker_are_refused_when_it_is_published(settings: Settings) -> None:
    own = store(settings)
    foreign = FormulaStrategy(Formula.parse("click", tasks=["click", "like"]), {})
    publish(own, "foreign", foreign, ranker="ranker/other/v3")
    with pytest.raises(ConfigError, match=r"'bad' was fitted to the scores of ranker/other/v3, not of ranker/small/v1"):
        publish_release(own, "bad", ranker="ranker/small", strategies={"bad": "strategy/foreign"}, default="bad")
    assert own.versions("release", "bad") == []


def test_and_when_a_tampered_one_is_served(settings: Settings) -> None:
    """Its parts are checked again at every start and reload."""
    own = store(settings)
    config = {"ranker": "ranker/small/v1", "strategies": {"a": "strategy/foreign2"}, "default": "a"}
    publish(own, "foreign2", FormulaStrategy(Formula.parse("click", tasks=["click"]), {}), ranker="ranker/other/v3")
    own.publish("release", "tampered", {}, config=config)
    with pytest.raises(ConfigError, match="fitted to the scores of ranker/other/v3"):
        loading.load(replace(settings, plan="", release="release/tampered"))
    own.publish("release", "half", {}, config={"ranker": "ranker/small/v1"})
    with pytest.raises(ArtefactError, match="lacks 'strategies'"):
        loading.load(replace(settings, release="release/half"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranker": "strategy/hand_set"}, "needs a ranker"),
        ({"ranker": "ranker/none"}, "no ranker named 'none'"),
        ({"strategies": {}}, "not one of none"),
        ({"default": "other"}, "'other' is not one of hand_set, searched"),
        ({"strategies": {"hand_set": "ranker/small"}}, "fuses by strategies"),
        ({"reference": Reference.of({"buy": np.ones(3)})}, "the reference holds buy"),
    ],
)
def test_what_does_not_fit_is_said(settings: Settings, change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"ranker": "ranker/small", "strategies": BOTH, "default": "hand_set", **change}
    with pytest.raises(ScorefusionError, match=words):
        publish_release(store(settings), "wrong", **given)
    assert store(settings).versions("release", "wrong") == []


def test_a_strategy_over_a_task_it_does_not_score_is_refused(settings: Settings) -> None:
    publish(store(settings), "buyers", FormulaStrategy(Formula.parse("buy", tasks=["buy"]), {}))
    with pytest.raises(ConfigError, match="needs task 'buy'"):
        publish_release(store(settings), "wrong", ranker="ranker/small", strategies={"b": "strategy/buyers"}, default="b")


@pytest.mark.parametrize("more", [{"ranker": "ranker/small"}, {"strategies": BOTH}, {"items": ""}, {"release": "ranker/small"}])
def test_settings_name_a_release_or_its_parts(settings: Settings, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"release|items"):
        replace(settings, **more)


def test_its_reference_comes_back(settings: Settings, tmp_path: Path) -> None:
    reference = reference_of(store(settings).find("release/prod"))
    assert reference is not None
    assert reference.tasks == ("click", "like")
    with pytest.raises(ArtefactError, match="drift from a release"):
        reference_of(store(settings).find("ranker/small"))
