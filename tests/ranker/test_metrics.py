"""Metrics agree with scikit-learn and with hand-worked numbers; what cannot be computed is NaN."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.metrics import by_scenario, ece, evaluate, mean_auc, mtl_gain


def test_binary_agrees_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = (rng.random(500) < p).astype(float)
    log = LoggedDataset({"y": y, "user_id": rng.integers(0, 40, 500)})
    row = evaluate({"y": p}, log, TaskSet([TaskSpec("y")]))["y"]
    assert row["auc"] == pytest.approx(roc_auc_score(y, p))
    assert row["logloss"] == pytest.approx(log_loss(y, p))
    by_hand, weight = 0.0, 0
    for user in np.unique(log["user_id"]):
        rows = log["user_id"] == user
        if 0 < y[rows].sum() < rows.sum():
            by_hand, weight = by_hand + roc_auc_score(y[rows], p[rows]) * rows.sum(), weight + rows.sum()
    assert row["gauc"] == pytest.approx(by_hand / weight)


def test_a_calibrated_score_has_a_small_error_and_a_shifted_one_its_shift() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.1, 0.6, 200_000)
    y = (rng.random(len(p)) < p).astype(float)
    assert ece(y, p) < 0.01
    assert ece(y, p + 0.2) == pytest.approx(0.2, abs=0.01)


def test_one_class_is_nan_not_a_number() -> None:
    log = LoggedDataset({"y": np.ones(3), "user_id": np.zeros(3)})
    row = evaluate({"y": np.array([0.1, 0.2, 0.3])}, log, TaskSet([TaskSpec("y")]))["y"]
    assert math.isnan(row["auc"])
    assert math.isnan(mean_auc({"y": row}))


def test_regression_and_multiclass_by_hand() -> None:
    tasks = TaskSet([TaskSpec("w", "regression"), TaskSpec("g", "multiclass", n_classes=2)])
    log = LoggedDataset({"w": np.array([1.0, 3.0]), "g": np.array([0, 1])})
    found = evaluate({"w": np.array([2.0, 3.0]), "g": np.array([[0.9, 0.1], [0.6, 0.4]])}, log, tasks, group=None)
    assert found["w"]["mae"] == 0.5
    assert found["w"]["r2"] == 0.5
    assert found["w"]["calibration"] == 1.25
    assert found["g"]["accuracy"] == 0.5
    assert found["g"]["precision_0"] == 0.5
    assert found["g"]["recall_1"] == 0.0
    assert math.isnan(found["g"]["precision_1"])


def test_gain_and_scenarios() -> None:
    assert mtl_gain({"y": {"auc": 0.7}}, {"y": {"auc": 0.75}})["y"] == pytest.approx(-0.05)
    log = LoggedDataset({"y": np.array([0, 1, 0, 1]), "tab": np.array([0, 0, 1, 1]), "user_id": np.zeros(4)})
    found = by_scenario({"y": np.array([0.1, 0.9, 0.9, 0.1])}, log, TaskSet([TaskSpec("y")]), "tab")
    assert [found[tab]["y"]["auc"] for tab in ("0", "1")] == [1.0, 0.0]
