"""Exported graphs score any number of items as the model does, for every architecture, in torch and in onnxruntime."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from core.errors import ArtefactError
from ranker import checks, models
from ranker.export import encoded, example_rows, export, load, onnx_gap, save, score, to_onnx
from ranker.predictor import Predictor


@pytest.fixture(scope="module", autouse=True)
def registry_made_once() -> Iterator[None]:
    """torch reads its whole library of ONNX functions anew for each export, half a second that tells us nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


def example(name: str, members: int = 1) -> tuple[checks.Example, Predictor]:
    made = checks.Example(lambda layout, tasks: models.make(name, layout, tasks, {"members": members}))
    return made, made.predictor


@pytest.mark.parametrize(("name", "members"), [*((name, 1) for name in models.MODELS), ("mmoe", 2), ("dupn", 2)])
def test_every_architecture_exports(name: str, members: int, tmp_path: Path) -> None:
    made, predictor = example(name, members)
    one = made.log.take(np.array([0])).columns
    rows = encoded(predictor, one, one, made.log.take(np.arange(7)).columns, 7)
    program = export(predictor, rows)
    many = encoded(predictor, one, one, made.log.columns, len(made.log))
    user, request = (predictor.encode(side, one) for side in ("user", "request"))
    wanted = predictor.score_encoded(user, request, predictor.encode("item", made.log.columns))
    assert np.allclose(score(load(save(program, tmp_path / "ranker.pt2")), many), wanted, atol=1e-5)

    content = to_onnx(program, rows, predictor.scored)
    onnx.checker.check_model(onnx.load_from_string(content))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {one.name: many[one.name].numpy() for one in session.get_inputs()})[0]
    assert np.allclose(found, wanted, atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["tasks"]) == ["click", "like", "watch_s"]


def test_a_graph_of_another_ranker_is_caught() -> None:
    _, predictor = example("shared_bottom")
    rows = example_rows(predictor)
    content = to_onnx(export(predictor, rows), rows, predictor.scored)
    gap = onnx_gap(content, predictor, rows)
    assert gap is not None
    assert gap < 1e-5
    next(predictor.model.towers.parameters()).data.add_(0.5)
    with pytest.raises(ArtefactError, match="differs from the ranker by"):
        onnx_gap(content, predictor, rows)


def test_random_rows_lie_in_their_tables() -> None:
    made, predictor = example("mmoe")
    rows = example_rows(predictor, 50)
    layout = made.encoder.layout
    start = layout.offsets["item_id"]
    assert rows["item.ids"].shape == (50, 1)
    assert int(rows["item.ids"].min()) >= start
    assert int(rows["item.ids"].max()) < start + layout.rows["item_id"]
    assert np.isfinite(score(export(predictor, rows), rows)).all()
