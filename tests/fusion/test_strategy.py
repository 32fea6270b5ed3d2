"""Formula strategies: hand-worked finals, and what is published is what is loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError
from core.scores import ScoreTable
from fusion.calibrate import Calibration, TaskCalibration
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, load_strategy, publish

FORMULA = Formula.parse("a * log(click + .1) + like * hour", tasks=["click", "like"], params=["a"], context=["hour"])
SCORES = ScoreTable(("like", "click", "other"), np.array([[0.1, 0.9, np.nan], [0.3, 0.4, 1.0]]))
CALIBRATION = Calibration({"click": TaskCalibration("platt", np.array([2.0, 0.5]))})


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_published_is_loaded(tmp_path: Path, calibration: Calibration | None) -> None:
    store = ArtefactStore(tmp_path)
    strategy = FormulaStrategy(FORMULA, {"a": 2.0}, calibration)
    artefact = publish(store, "tuned", strategy, ranker="ranker/demo/v1", metrics={"gauc": 0.7})
    loaded = load_strategy(store.find("strategy/tuned"))
    context = {"hour": 3}
    np.testing.assert_array_equal(loaded.fuse(SCORES, context).final, strategy.fuse(SCORES, context).final)
    assert artefact.manifest["parents"] == {"ranker": "ranker/demo/v1"}
    assert loaded.requires == {"click", "like"}
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(strategy)).fuse(SCORES, context).final, loaded.fuse(SCORES, context).final
    )


def test_calibration_goes_first() -> None:
    strategy = FormulaStrategy(FORMULA, {"a": 1.0}, CALIBRATION)
    z = np.log(SCORES["click"] / (1 - SCORES["click"]))
    calibrated = 1 / (1 + np.exp(-(2 * z + 0.5)))
    np.testing.assert_allclose(strategy.fuse(SCORES, {"hour": 2}).final, np.log(calibrated + 0.1) + 2 * SCORES["like"], rtol=1e-9)


def test_missing_things_are_named() -> None:
    strategy = FormulaStrategy(FORMULA, {"a": 1.0})
    with pytest.raises(DataError, match="needs 'hour'"):
        strategy.fuse(SCORES, {})
    with pytest.raises(DataError, match="needs a number"):
        strategy.fuse(SCORES, {"hour": "noon"})
    with pytest.raises(ConfigError, match="needs task 'click'"):
        strategy.fuse(ScoreTable(("like",), np.ones((1, 1))), {"hour": 1})
    with pytest.raises(ConfigError, match="'a' has no value"):
        FormulaStrategy(FORMULA, {})
    with pytest.raises(ConfigError, match="has no parameter 'b'"):
        FormulaStrategy(FORMULA, {"a": 1, "b": 2})
    with pytest.raises(ConfigError, match="must be finite"):
        FormulaStrategy(FORMULA, {"a": float("nan")})


def test_nonfinite_policy() -> None:
    scores = ScoreTable(("click",), np.array([[0.0], [0.5]]))
    with pytest.raises(DataError, match=r"not finite for 1 of 2 items \(item 0: click=0\)"):
        FormulaStrategy(Formula.parse("log(click)", tasks=["click"]), {}).fuse(scores)
    fused = FormulaStrategy(Formula.parse("log(click)", tasks=["click"], nonfinite=-9.0), {}).fuse(scores)
    assert fused.final[0] == -9.0
    assert fused.n_nonfinite == 1
    with pytest.raises(ConfigError, match="nonfinite"):
        Formula.parse("log(click)", tasks=["click"], nonfinite=float("inf"))


def test_foreign_and_damaged_artefacts_are_refused(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    other = store.publish("ranker", "x", {"a.bin": b"1"}, config={})
    with pytest.raises(ArtefactError, match="is a ranker"):
        load_strategy(other)
    artefact = publish(store, "s", FormulaStrategy(FORMULA, {"a": 1.0}))
    manifest = json.loads((artefact.path / "manifest.json").read_text())
    manifest["config"]["weights"] = {"a": 5.0}
    (artefact.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="differ"):
        load_strategy(store.find("strategy/s"))
