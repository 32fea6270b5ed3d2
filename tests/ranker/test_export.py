"""An exported graph scores any number of items as the model does, for every architecture, and survives its file."""

from pathlib import Path

import numpy as np
import pytest

from ranker import checks, models
from ranker.export import encoded, export, load, save, score


@pytest.mark.parametrize("name", models.MODELS)
def test_every_architecture_exports(name: str, tmp_path: Path) -> None:
    example = checks.Example(lambda layout, tasks: models.make(name, layout, tasks))
    predictor = example.predictor
    one = example.log.take(np.array([0])).columns
    rows = encoded(predictor, one, one, example.log.take(np.arange(7)).columns, 7)
    program = load(save(export(predictor, rows), tmp_path / "ranker.pt2"))
    many = encoded(predictor, one, one, example.log.columns, len(example.log))
    user, request = (predictor.encode(side, one) for side in ("user", "request"))
    wanted = predictor.score_encoded(user, request, predictor.encode("item", example.log.columns))
    assert np.allclose(score(program, many), wanted, atol=1e-5)
