"""TensorBoard reads back what the history says."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ranker.checks import TASKS, example_log, example_spec
from ranker.scalars import Scalars
from ranker.train import TrainConfig, train


def test_scalars_are_the_history(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, batch_size=64, patience=5)
    trained = train(
        example_spec(TASKS),
        "shared_bottom",
        train=example_log(128, 0),
        valid=example_log(128, 1),
        config=config,
        watch=Scalars(tmp_path),
        progress=False,
    )
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    for name, key in (("train_loss/click", "loss"), ("valid_loss/watch_s", "valid_loss"), ("weight/like", "weights")):
        rows = read.Scalars(name)
        assert [row.step for row in rows] == [1000, 2000]
        assert [row.value for row in rows] == pytest.approx([row[key][name.split("/")[1]] for row in trained.history])
    assert {"score", "auc/click", "gauc/like", "rmse/watch_s"} <= set(read.Tags()["scalars"])
