"""The predictor: artefacts in, scores out; damaged or foreign artefacts are refused; requests with inline features work."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import Artefact, ArtefactStore
from core.errors import ArtefactError, DataError
from core.events import Request
from core.tasks import TaskSet, TaskSpec
from ranker import checks
from ranker.models.mmoe import MMoE
from ranker.predictor import Predictor


def published(root: Path) -> tuple[checks.Example, Artefact]:
    example = checks.Example(MMoE)
    predictor = Predictor("mmoe", {}, example.encoder, example.model, example.scales)
    return example, predictor.publish(ArtefactStore(root), "demo")


def test_a_request_with_inline_features_scores_as_the_logged_rows(tmp_path: Path) -> None:
    example, artefact = published(tmp_path)
    predictor = Predictor.load(artefact)
    rows = example.log.take(np.zeros(5, int))
    items = example.log.take(np.arange(5))
    wanted = {**items.columns, **{n: rows[n] for n in predictor.spec.columns("user", "request")}}
    request = Request(
        "r1",
        "u1",
        items["item_id"],
        context={"scenario": int(rows["scenario"][0])},
        features={n: items[n] for n in predictor.spec.columns("item") if n != "item_id"},
    )
    table = predictor.score(request, {n: rows[n][:1] for n in predictor.spec.columns("user")})
    assert table.tasks == ("click", "like", "watch_s")
    assert np.allclose(table.values, predictor.score_columns(wanted).values, atol=1e-5)


def test_features_that_are_not_there_or_nan_are_refused(tmp_path: Path) -> None:
    example, artefact = published(tmp_path)
    predictor = Predictor.load(artefact)
    user = {n: example.log[n][:1] for n in predictor.spec.columns("user")}
    with pytest.raises(DataError, match="no item features"):
        predictor.score(Request("r", "u", np.arange(2)), user)
    features = {n: example.log[n][:2] for n in predictor.spec.columns("item")} | {"price": np.array([1.0, np.nan])}
    with pytest.raises(DataError, match="'price' is NaN in row 1"):
        predictor.score(Request("r", "u", np.arange(2), features=features, context={"scenario": 1}), user)


def test_user_level_and_multiclass_come_apart(tmp_path: Path) -> None:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("grade", "multiclass", level="user", n_classes=3)])
    example = checks.Example(MMoE, tasks)
    table = example.predictor.score_columns(example.log.columns)
    assert table.tasks == ("click",)
    assert np.allclose(table.user_values["grade"].sum(1), 1)


def test_a_damaged_artefact_is_refused(tmp_path: Path) -> None:
    _, artefact = published(tmp_path)
    weights = artefact.path / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match="is damaged"):
        Predictor.load(artefact)


def test_a_foreign_artefact_is_refused(tmp_path: Path) -> None:
    other = ArtefactStore(tmp_path).publish("strategy", "x", {"a": b"1"}, config={})
    with pytest.raises(ArtefactError, match="is a strategy, not a ranker"):
        Predictor.load(other)


def test_a_changed_spec_against_old_weights_is_refused(tmp_path: Path) -> None:
    _, artefact = published(tmp_path)
    files = {name: artefact.read(name) for name in artefact.manifest["files"]}
    head = json.loads(files["encoder.json"])
    head["spec"]["features"][0]["dim"] = 16
    files["encoder.json"] = json.dumps(head).encode()
    changed = ArtefactStore(tmp_path).publish("ranker", "demo", files, config=artefact.config)
    with pytest.raises(ArtefactError, match="weights do not fit its feature spec"):
        Predictor.load(changed)
