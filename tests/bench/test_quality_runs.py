"""A finished run is read back, never trained twice; other data, settings or code mean another run."""

from pathlib import Path

import numpy as np
import pytest

from bench import quality_runs
from bench.quality_runs import Prepared, Setting, code_digest, judge, run
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.recipes import Recipe
from ranker.train import TrainConfig


def tiny(seed: int = 0) -> Recipe:
    rng = np.random.default_rng(seed)
    item = rng.integers(0, 20, 1200)
    rows = LoggedDataset(
        {
            "user_id": rng.integers(0, 50, 1200),
            "item_id": item,
            "click": (rng.random(1200) < item / 20).astype(float),
            "like": (rng.random(1200) < 0.5).astype(float),
        }
    )
    spec = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click"), TaskSpec("like")]))
    parts = [rows.take(np.arange(a, b)) for a, b in ((0, 600), (600, 900), (900, 1200))]
    return Recipe("tiny", spec, *parts)


SETTING = Setting(TrainConfig(epochs=4, batch_size=64, learning_rate=0.02), {"towers": [4]})


def test_a_finished_run_is_kept_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny()
    first = run(Prepared(recipe), ["click", "like"], "shared_bottom", 0, SETTING, tmp_path, progress=False)
    assert first.chosen_by > 0.5
    assert first.seconds > 0
    metrics = judge(first, recipe.test, recipe.spec.tasks, "user_id")
    assert metrics["click"]["auc"] > 0.75
    assert 0.35 < metrics["like"]["auc"] < 0.65
    monkeypatch.setattr(quality_runs, "fit", lambda *a, **k: pytest.fail("it was trained again"))
    again = run(Prepared(recipe), ["click", "like"], "shared_bottom", 0, SETTING, tmp_path, progress=False)
    assert np.array_equal(again.predictions["click"], first.predictions["click"])
    assert (again.chosen_by, again.best_epoch, again.seconds) == (first.chosen_by, first.best_epoch, first.seconds)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"], "no checkpoints and no partial files stay"


def test_anything_that_matters_makes_another_run(tmp_path: Path) -> None:
    keys = {
        quality_runs._key(Prepared(tiny()), ["click"], "mmoe", 0, SETTING),
        quality_runs._key(Prepared(tiny(1)), ["click"], "mmoe", 0, SETTING),
        quality_runs._key(Prepared(tiny()), ["click"], "mmoe", 1, SETTING),
        quality_runs._key(Prepared(tiny()), ["click"], "ple", 0, SETTING),
        quality_runs._key(Prepared(tiny()), ["click"], "mmoe", 0, Setting(TrainConfig(epochs=5))),
    }
    assert len(keys) == 5
    (tmp_path / "a.py").write_text("x = 1")
    before = code_digest(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "b.py").write_text("y = 1")
    assert code_digest(tmp_path) == before, "what a recipe makes is in the key itself"
    (tmp_path / "a.py").write_text("x = 2")
    assert code_digest(tmp_path) != before
