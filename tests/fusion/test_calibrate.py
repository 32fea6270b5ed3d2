"""Calibration recovers known distortions, never changes the order within a task, and comes back from an artefact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import Floats, auc
from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion.calibrate import METHODS, Calibration, Method, TaskCalibration, fit, fit_task
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, load_strategy, publish

N = 40_000


def sigmoid(z: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-z)))


def world(a: float, b: float) -> tuple[Floats, Floats, Floats]:
    """True probabilities, labels, and scores p with truth = sigmoid(a logit(p) + b)."""
    rng = np.random.default_rng(0)
    z = rng.normal(-1.0, 1.5, N)
    truth = sigmoid(a * z + b)
    return truth, (rng.random(N) < truth).astype(np.float64), sigmoid(z)


def test_platt_recovers_slope_and_offset() -> None:
    _, label, score = world(0.6, -0.8)
    np.testing.assert_allclose(fit_task(score, label, "platt").values, [0.6, -0.8], atol=0.05)


@pytest.mark.parametrize("t", [0.4, 1.0, 2.5])
def test_temperature_recovers_t(t: float) -> None:
    _, label, score = world(1 / t, 0.0)
    assert fit_task(score, label, "temperature").values[0] == pytest.approx(t, rel=0.05)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_calibrated_is_near_the_truth(method: Method) -> None:
    truth, label, score = world(0.6, -0.8)
    calibrated = fit_task(score, label, method)(score)
    assert np.abs(score - truth).mean() > 0.1
    assert np.abs(calibrated - truth).mean() < 0.012


@pytest.mark.parametrize("method", ["isotonic", "platt", "temperature"])
def test_the_order_stays(method: Method) -> None:
    _, label, score = world(0.6, -0.8)
    calibration = fit_task(score[:3000], label[:3000], method)
    ordered = np.sort(score)
    assert (np.diff(calibration(ordered)) >= 0).all()
    assert auc(label > 0, calibration(score)) == pytest.approx(auc(label > 0, score), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30), st.sampled_from(METHODS))
def test_any_scores_give_probabilities(rows: list[tuple[float, bool]], method: Method) -> None:
    score, label = np.array([p for p, _ in rows]), np.array([float(y) for _, y in rows])
    if label.min() == label.max() or (method == "scale" and score.sum() == 0):
        return
    calibrated = fit_task(score, label, method)(np.linspace(0, 1, 50))
    assert np.isfinite(calibrated).all()
    assert (np.diff(calibrated) >= -1e-12).all()
    if method != "scale":
        assert ((calibrated >= 0) & (calibrated <= 1)).all()


def test_a_regression_is_scaled() -> None:
    tasks = TaskSet([TaskSpec("watch_s", "regression", unit_of_measure="s"), TaskSpec("click")])
    rng = np.random.default_rng(0)
    expected = rng.exponential(10, 5000)
    log = LoggedDataset(
        {
            "score_watch_s": expected / 2,
            "watch_s": expected * rng.gamma(4, 0.25, 5000),
            "score_click": rng.random(5000),
            "click": np.where(rng.random(5000) < 0.1, np.nan, rng.integers(0, 2, 5000)),
        }
    )
    calibration = fit(log, tasks, "platt")
    assert calibration.tasks["watch_s"].method == "scale"
    assert calibration.tasks["watch_s"].values[0] == pytest.approx(2.0, rel=0.03)
    isotonic = fit(log, tasks).tasks["watch_s"]
    assert isotonic(np.array([5.0]))[0] == pytest.approx(10.0, rel=0.25)
    assert isotonic(np.array([1e4]))[0] >= isotonic(np.array([60.0]))[0]
    with pytest.raises(ConfigError, match="is a regression"):
        fit(log, tasks, {"watch_s": "platt"})


def test_bad_input() -> None:
    with pytest.raises(DataError, match="both 0 and 1"):
        fit_task(np.array([0.1, 0.2]), np.array([1.0, 1.0]), "platt")
    with pytest.raises(DataError, match="no row has both"):
        fit_task(np.array([np.nan]), np.array([1.0]), "isotonic")
    log = LoggedDataset({"score_a": np.ones(2), "a": np.ones(2)})
    with pytest.raises(ConfigError, match="is not one of"):
        fit(log, TaskSet([TaskSpec("a")]), "beta")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ArtefactError, match="unknown"):
        Calibration.from_arrays({"click": "beta"}, {})


def test_other_tasks_pass_through() -> None:
    calibration = Calibration({"click": TaskCalibration("platt", np.array([1.0, 1.0]))})
    scores = ScoreTable(("click", "like"), np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(calibration.apply(scores).values, np.array([[1 / (1 + np.exp(-1.0)), 0.5]]))
    np.testing.assert_array_equal(calibration.apply(scores, ["like"]).values, scores.values)
    methods, arrays = calibration.to_arrays()
    np.testing.assert_array_equal(Calibration.from_arrays(methods, arrays).apply(scores).values, calibration.apply(scores).values)


def two_scenarios(n: int = N) -> tuple[LoggedDataset, Floats]:
    """A feed where scores are twice too sure, a search page where they are too low, and a few rows of a third page; truths."""
    rng = np.random.default_rng(1)
    z = rng.normal(-0.5, 1.5, n)
    scenario = rng.choice(["feed", "search", "new"], n, p=[0.6, 0.39, 0.01])
    slope, offset = np.where(scenario == "feed", 0.5, 1.0), np.where(scenario == "search", 1.2, 0.0)
    truth = sigmoid(slope * z + offset)
    label = (rng.random(n) < truth).astype(np.float64)
    return LoggedDataset({"score_click": sigmoid(z), "click": label, "scenario": scenario.astype(object)}), truth


def test_scenarios_have_maps_of_their_own(tmp_path: Path) -> None:
    log, truth = two_scenarios()
    tasks = TaskSet([TaskSpec("click")])
    alone, together = fit(log, tasks, "platt", by_scenario=True), fit(log, tasks, "platt")
    np.testing.assert_allclose(alone.scenarios["feed"]["click"].values, [0.5, 0.0], atol=0.06)
    np.testing.assert_allclose(alone.scenarios["search"]["click"].values, [1.0, 1.2], atol=0.1)
    assert set(alone.scenarios) == {"feed", "search"}  # 400 rows are too few
    known = log["scenario"] != "new"
    error = {name: np.abs(c.apply_log(log)["score_click"] - truth)[known].mean() for name, c in (("a", alone), ("t", together))}
    assert error["a"] < 0.01 < 0.05 < error["t"]
    methods, arrays = alone.to_arrays()
    again = Calibration.from_arrays(methods, arrays)
    np.testing.assert_array_equal(again.apply_log(log)["score_click"], alone.apply_log(log)["score_click"])

    strategy = FormulaStrategy(Formula.parse("click", tasks=["click"]), {}, alone)
    loaded = load_strategy(publish(ArtefactStore(tmp_path), "s", strategy))
    table = ScoreTable(("click",), np.array([[0.2], [0.8]]))
    for scenario in ("feed", "search", "new"):
        of_log = alone.apply_log(
            LoggedDataset({"score_click": table["click"], "scenario": np.array([scenario] * 2, dtype=object)})
        )
        np.testing.assert_array_equal(loaded.fuse(table, {"scenario": scenario}).final, of_log["score_click"])
    np.testing.assert_array_equal(loaded.fuse(table).final, alone.tasks["click"](table["click"]))
    with pytest.raises(DataError, match="scenario"):
        alone.apply_log(LoggedDataset({"score_click": table["click"]}))
    with pytest.raises(DataError, match="scenario"):
        fit(LoggedDataset({"score_click": table["click"], "click": np.array([0.0, 1.0])}), tasks, by_scenario=True)
