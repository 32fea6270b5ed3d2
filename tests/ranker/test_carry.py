"""Growing a trained ranker keeps what it said; what is new starts fresh and learns."""

from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.carry import grown
from ranker.checks import example_log, example_spec
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, Trained, train

TWO = TaskSet([TaskSpec("click"), TaskSpec("watch_s", "regression", unit_of_measure="s")])
THREE = TaskSet([*TWO, TaskSpec("buy")])


def made(model: str, tasks: TaskSet = TWO, **options: object) -> tuple[Trained, LoggedDataset]:
    log = example_log(300, 0)
    log = log.with_columns({"buy": (log["item_id"] % 3 == 0).astype(float)})
    trained = train(
        example_spec(tasks),
        model,
        train=log.take(np.arange(200)),
        valid=log.take(np.arange(200, 300)),
        config=TrainConfig(epochs=1, batch_size=50),
        options=options,
        progress=False,
    )
    return trained, log


@pytest.mark.parametrize("model", ["mmoe", "shared_bottom", "omoe", "ml_mmoe", "dupn", "cnn_max"])
def test_a_new_task_leaves_the_old_ones_as_they_were(model: str) -> None:
    trained, log = made(model)
    larger = grown(trained, log, example_spec(THREE))
    before, after = trained.predictor.score_columns(log.columns), larger.predictor.score_columns(log.columns)
    assert after.tasks == ("click", "watch_s", "buy")
    assert after.values[:, :2] == pytest.approx(before.values, abs=1e-6)


def test_a_new_task_of_aesm2_with_every_expert_selected_leaves_the_old_ones_as_they_were() -> None:
    trained, log = made("aesm2", n_specific=6)
    larger = grown(trained, log, example_spec(THREE))
    before, after = trained.predictor.score_columns(log.columns), larger.predictor.score_columns(log.columns)
    assert after.values[:, :2] == pytest.approx(before.values, abs=1e-6)


@pytest.mark.parametrize("model", ["aesm2", "mmoe"])
def test_a_new_scenario_and_new_items_leave_the_old_rows_as_they_were_and_learn(model: str) -> None:
    options: dict[str, Any] = {"n_specific": 6} if model == "aesm2" else {}
    trained, log = made(model, **options)
    rng = np.random.default_rng(1)
    fresh = log.with_columns({"scenario": np.full(300, 9), "item_id": rng.integers(50, 60, 300)})
    larger = grown(trained, fresh)
    assert larger.encoder.layout.rows["scenario"] == trained.encoder.layout.rows["scenario"] + 1
    before, after = trained.predictor.score_columns(log.columns), larger.predictor.score_columns(log.columns)
    assert after.values == pytest.approx(before.values, abs=1e-6)
    again = train(
        larger.encoder.spec,
        model,
        train=fresh.take(np.arange(200)),
        valid=fresh.take(np.arange(200, 300)),
        config=TrainConfig(epochs=1, batch_size=50),
        options=options,
        start=larger,
        progress=False,
    )
    table = again.model.inputs.weight(4)
    row = again.encoder.layout.offsets["scenario"] + again.encoder.vocabularies["scenario"].encode(np.array([9]))[0]
    assert not torch.equal(table[row], larger.model.inputs.weight(4)[row])


def test_what_cannot_be_carried_is_named() -> None:
    trained, log = made("ple")
    with pytest.raises(ConfigError, match="ple cannot take a new task"):
        grown(trained, log, example_spec(THREE))
    spec = example_spec(TWO)
    with pytest.raises(ConfigError, match="features differ"):
        grown(trained, log, FeatureSpec(spec.features[1:], TWO, scenario="scenario"))
    with pytest.raises(ConfigError, match="must begin with"):
        grown(trained, log, example_spec(TaskSet([TaskSpec("buy"), *TWO])))
