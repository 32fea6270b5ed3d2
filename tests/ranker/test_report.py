"""The report: its numbers are those of the model, and the page stands on its own."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.checks import example_log
from ranker.features import Feature, FeatureSpec
from ranker.report import facts, write
from ranker.report.facts import calibration
from ranker.report.inside import row_names
from ranker.train import TrainConfig, Trained, train


@cache
def trained(model: str, members: int = 1) -> tuple[Trained, LoggedDataset]:
    log = example_log(400, 0)
    kinds, ages = np.empty(400, object), np.empty(400, object)
    for row, history in enumerate(log["history"]):
        kinds[row] = np.array(["view", "buy"])[np.arange(len(history)) % 2]
        ages[row] = np.minimum(np.arange(len(history))[::-1], 3)
    log = log.with_columns({"kinds": kinds, "ages": ages, "like": np.nan_to_num(log["like"])})
    spec = FeatureSpec(
        [
            Feature("user_id", side="user"),
            Feature("history", kind="sequence", side="user", shares="item_id", max_len=5, pooling="none"),
            Feature("kinds", kind="sequence", side="user", max_len=5, pooling="none"),
            Feature("ages", kind="sequence", side="user", max_len=5, pooling="none"),
            Feature("scenario", side="request", dim=4),
            Feature("item_id"),
            Feature("price", kind="dense"),
        ],
        TaskSet([TaskSpec("click"), TaskSpec("like"), TaskSpec("watch_s", "regression", unit_of_measure="s")]),
        scenario="scenario",
    )
    torch.manual_seed(0)
    made = train(
        spec,
        model,
        train=log.take(np.arange(300)),
        valid=log.take(np.arange(300, 400)),
        config=TrainConfig(epochs=2, batch_size=100),
        options={"members": members},
        progress=False,
    )
    return made, log.take(np.arange(300, 400))


@cache
def report(model: str) -> dict[str, Any]:
    return facts(*trained(model))


@pytest.mark.parametrize("model", ["mmoe", "cgc", "ple", "omoe"])
def test_gate_weights_sum_to_one(model: str) -> None:
    for gate in report(model)["utilisation"].values():
        assert np.sum(gate["mean"], 1) == pytest.approx(1, abs=1e-5)
        assert len(gate["readers"]) == len(gate["mean"])
        assert len(gate["experts"]) == len(gate["mean"][0])
    assert report("cgc")["utilisation"]["gate"]["experts"] == ["own 1", "shared 1", "shared 2"]


def test_selection_counts_are_the_settings() -> None:
    """Every scenario and task selects K_sp experts as its own and K_sh as shared, so the rows' shares add up to them."""
    for level in report("aesm2")["selection"].values():
        assert np.sum(level["specific"], 1) == pytest.approx(3, abs=1e-6)
        assert np.sum(level["shared"], 1) == pytest.approx(3, abs=1e-6)
        assert np.sum(level["gate_mean"], 1) == pytest.approx(1, abs=1e-5)
    groups = report("aesm2")["selection"]["scenario"]["groups"]
    made, log = trained("aesm2")
    assert sorted(groups) == sorted({str(v) for v in log["scenario"]})
    assert set(groups) <= set(row_names(made.encoder, "scenario"))


def test_attention_lift_is_one_on_average() -> None:
    """The shares of a sequence sum to one, so lift weighted by its counts averages to one."""
    (table,) = report("dupn")["attention"]
    assert table["properties"] == ["kinds", "ages"]
    assert (sorted(table["rows"]), sorted(table["columns"])) == (["buy", "view"], ["0", "1", "2", "3"])
    lift, n = (np.array([[v or 0.0 for v in row] for row in table[name]]) for name in ("lift", "n"))
    assert np.sum(lift * n) / np.sum(n) == pytest.approx(1, abs=1e-5)
    _, log = trained("dupn")
    assert np.sum(n) == sum(min(len(history), 5) for history in log["history"])
    assert report("mmoe")["attention"] == []
    one = report("dupn")["attention_of_one"]
    assert one["feature"] == "scenario"
    assert np.sum(one["attention"], 1) == pytest.approx(1, abs=1e-5)
    assert report("din")["attention_of_one"]["feature"] == "item_id"


@pytest.mark.parametrize("model", ["cgc", "aesm2", "dupn", "din"])
def test_an_ensemble_shows_its_first_member(model: str, tmp_path: Path) -> None:
    one, two = report(model), facts(*trained(model, 2))
    for part in ("utilisation", "selection"):
        assert one[part].keys() == two[part].keys()
    assert [table["properties"] for table in one["attention"]] == [table["properties"] for table in two["attention"]]
    assert (one["attention_of_one"] is None) == (two["attention_of_one"] is None)
    assert two["members"] == 2
    assert write(two, tmp_path).read_text().count("first member") == 1


def test_gradient_cosines_are_cosines() -> None:
    cosines = np.array(report("mmoe")["gradient_cosines"]["mean"])
    assert np.diag(cosines) == pytest.approx(1, abs=1e-5)
    assert np.allclose(cosines, cosines.T)
    assert (np.abs(cosines) <= 1 + 1e-6).all()
    assert report("single_task")["gradient_cosines"] is None


def test_calibration_bins_are_counted_by_hand() -> None:
    label, probability = np.array([0.0, 0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.2, 0.8, 0.9, 0.5])
    bins = calibration(label, np.array([True, True, True, True, False]), probability, n_bins=2)
    assert bins["n"] == [2, 2]
    assert bins["predicted"] == pytest.approx([0.15, 0.85])
    assert bins["rate"] == [0, 1]
    assert bins["rate_low"][0] == pytest.approx(0, abs=1e-9)
    assert bins["rate_high"][0] == pytest.approx(1.96**2 / (2 + 1.96**2))  # Wilson at a rate of 0


@pytest.mark.parametrize("model", ["mmoe", "ple", "aesm2", "dupn", "din", "single_task", "wide"])
def test_page_stands_alone(model: str, tmp_path: Path) -> None:
    made = report(model)
    path = write(made, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(made))
    text = path.read_text()
    body = text[text.index("</style>") :]
    assert "<script src" not in text
    assert "<link" not in body
    assert body.count('class="plot"') >= 5
    assert f"Ranker {model}" in text
