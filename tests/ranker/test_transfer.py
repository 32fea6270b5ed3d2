"""The four ways of transfer do what their names say."""

from functools import cache

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.checks import example_log, example_spec
from ranker.train import TrainConfig, Trained, train
from ranker.transfer import MODES, Transferred, transfer

BUY = TaskSpec("buy")
CONFIG = TrainConfig(epochs=2, batch_size=50)


@cache
def source(model: str) -> tuple[Trained, LoggedDataset]:
    log = example_log(300, 0)
    log = log.with_columns({"buy": (log["item_id"] % 3 == 0).astype(float)})
    tasks = TaskSet([TaskSpec("click"), TaskSpec("watch_s", "regression", unit_of_measure="s")])
    options = {"ranked": ["click"], "reads": {"watch_s": ["item_id"]}} if model == "dupn" else {}
    first, later = log.take(np.arange(200)), log.take(np.arange(200, 300))
    return train(example_spec(tasks), model, train=first, valid=later, config=CONFIG, options=options, progress=False), log


def moved(model: str, mode: str) -> Transferred:
    trained, log = source(model)
    ticks = iter([3.0, 5.0])
    return transfer(
        trained,
        BUY,
        mode,
        train_log=log.take(np.arange(200)),
        valid_log=log.take(np.arange(200, 300)),
        clock=lambda: next(ticks),
        progress=False,
    )


@pytest.mark.parametrize("model", ["dupn", "shared_bottom", "mmoe"])
def test_frozen_and_fine_tuned_representations(model: str) -> None:
    trained, _ = source(model)
    old = dict(trained.model.named_parameters())
    shared = {id(p) for layer in trained.model.shared_layers() for p in layer.parameters()}
    names = [name for name, p in old.items() if id(p) in shared or name.startswith("inputs.")]
    frozen, tuned = (dict(moved(model, mode).trained.model.named_parameters()) for mode in ("rt", "ft"))
    assert all(torch.equal(frozen[name], old[name]) for name in names)
    assert any(not torch.equal(tuned[name], old[name]) for name in names)


def test_tasks_time_and_trained_numbers() -> None:
    found = {mode: moved("dupn", mode) for mode in MODES}
    assert {mode: one.trained.encoder.spec.tasks.names for mode, one in found.items()} == {
        "rs": ("buy",),
        "ra": ("click", "watch_s", "buy"),
        "rt": ("buy",),
        "ft": ("buy",),
    }
    assert found["rt"].n_trained < found["ft"].n_trained == found["rs"].n_trained
    for one in found.values():
        assert one.seconds == 2.0
        assert one.curve[-1][0] == 2.0
        assert np.isfinite(one.trained.metrics["buy"]["auc"])


def test_wrong_transfers_are_named() -> None:
    trained, log = source("mmoe")
    with pytest.raises(ConfigError, match="not one of rs, ra, rt, ft"):
        transfer(trained, BUY, "xx", train_log=log, valid_log=log)
    with pytest.raises(ConfigError, match="was trained for"):
        transfer(trained, TaskSpec("click"), "rs", train_log=log, valid_log=log)
    ple, _ = source("ple")
    with pytest.raises(ConfigError, match="cannot be carried"):
        transfer(ple, BUY, "rt", train_log=log, valid_log=log, progress=False)
