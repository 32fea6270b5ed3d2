"""The quality bench chooses by validation alone, reports paired gains, and owes every figure of the list."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench import quality_opponents, ranker_quality
from bench.harness import Bench
from bench.quality_runs import Outcome, Setting
from core.arrays import AnyArray
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.recipes import Recipe, kuairand
from ranker.train import TrainConfig


def world(seed: int = 0, n: int = 2000) -> Recipe:
    rng = np.random.default_rng(seed)
    item = rng.integers(0, 20, n)
    columns: dict[str, AnyArray] = {"user_id": rng.integers(0, 300, n), "item_id": item, "time_ms": np.arange(n)}
    columns["follow"] = np.zeros(n)
    for i, task in enumerate(ranker_quality.KUAIRAND_TASKS):
        columns[task] = (rng.random(n) < 0.05 + item / (25 + 5 * i)).astype(float)
    spec = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec(t) for t in ranker_quality.KUAIRAND_TASKS]))
    log = LoggedDataset(columns)
    return Recipe("kuairand", spec, *(log.take(np.arange(a, b)) for a, b in ((0, n // 2), (n // 2, 3 * n // 4), (3 * n // 4, n))))


def test_the_choice_looks_at_validation_only() -> None:
    runs = {
        "a": [Outcome("a", s, v, {}, 1.0, 1.0) for s, v in enumerate((0.70, 0.72))],
        "b": [Outcome("b", s, v, {}, 1.0, 1.0) for s, v in enumerate((0.90, 0.40))],
    }
    assert ranker_quality.choose(runs) == "a"


@pytest.fixture
def on_a_small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float | None]]:
    recipe = world()
    noise = np.random.default_rng(1).random(len(recipe.test))
    monkeypatch.setattr(ranker_quality, "data_folder", lambda name: tmp_path)
    monkeypatch.setattr(kuairand, "load", lambda folder, tasks, fresh: recipe)
    monkeypatch.setattr(ranker_quality, "_some_users", lambda folder, target: folder)
    setting = Setting(TrainConfig(epochs=3, batch_size=64, learning_rate=0.02))
    monkeypatch.setattr(ranker_quality, "as_shipped", lambda recipe, model, **_: setting)

    def go(theirs: str, *more: str, quick: bool = True) -> dict[str, float | None]:
        answers = {"noise": dict.fromkeys(ranker_quality.KUAIRAND_TASKS, noise), "absent": None}
        monkeypatch.setattr(quality_opponents, "kuairand", lambda *_: answers[theirs])
        out = io.StringIO()
        with redirect_stdout(out):
            said = ["--data", "kuairand", "--no-progress", "--work", str(tmp_path), *more]
            ranker_quality.main(["--quick", *said] if quick else said)
        figures: dict[str, float | None] = json.loads(out.getvalue().splitlines()[-1])["figures"]
        return figures

    return go


def test_a_random_opponent_is_beaten_with_intervals(on_a_small_world: Callable[..., dict[str, float | None]]) -> None:
    figures = on_a_small_world("noise", "--models", "single_task", "mmoe", "ple", "--seeds", "2")
    click, gain, low = figures["kuairand_click_auc"], figures["kuairand_mean_gain"], figures["kuairand_mean_gain_low"]
    assert click is not None
    assert 0.6 < click < 0.9
    assert gain is not None
    assert low is not None
    assert 0.05 < low < gain
    assert figures["kuairand_min_gain_low"] is not None
    ple = figures["kuairand_ple_mtl_gain_low"]
    assert ple is not None
    assert -0.1 < ple < 0.05
    assert figures["kuairand_aesm2_mtl_gain_low"] is None, "it was not asked for"
    assert figures["census_income_auc"] is None


def test_an_absent_opponent_is_null(on_a_small_world: Callable[..., dict[str, float | None]]) -> None:
    figures = on_a_small_world("absent", "--models", "shared_bottom")
    assert figures["kuairand_click_auc"] is not None
    assert figures["kuairand_mean_gain"] is None
    assert figures["kuairand_mean_gain_low"] is None


def test_finished_runs_alone_are_compared(on_a_small_world: Callable[..., dict[str, float | None]]) -> None:
    on_a_small_world("noise", "--models", "mmoe", "--seeds", "1")
    figures = on_a_small_world("noise", "--models", "single_task", "mmoe", "--seeds", "2", "--finished")
    assert figures["kuairand_click_auc"] is not None
    assert on_a_small_world("noise", "--models", "single_task", "--finished")["kuairand_click_auc"] is None, "nothing was trained"


def test_a_record_keeps_the_other_data_set(
    on_a_small_world: Callable[..., dict[str, float | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = {
        "date": "d1",
        "figures": {"census_income_auc": 0.9, "kuairand_click_auc": 0.1},
        "notes": {"census_income_auc": "mmoe is chosen", "kuairand_click_auc": "ple is chosen"},
        "tables": [{"title": f"{what}; seeds: 3"} for what in ("Census, judged", "KuaiRand, judged on 500 rows of 05-04..05-06")],
    }
    path = tmp_path / "results" / "ranker_quality.json"
    path.parent.mkdir()
    path.write_text(json.dumps(older))
    monkeypatch.setattr(ranker_quality, "Bench", partial(Bench, results=path.parent))
    on_a_small_world("noise", "--models", "mmoe", "--seeds", "1", "--record", quick=False)
    record = json.loads(path.read_text())
    assert record["figures"]["census_income_auc"] == 0.9
    assert record["figures"]["kuairand_click_auc"] > 0.5
    assert record["notes"]["census_income_auc"] == "mmoe is chosen"
    assert record["notes"]["kuairand_click_auc"].startswith("mmoe is chosen")
    titles = [table["title"].partition(",")[0] for table in record["tables"]]
    assert sorted(titles) == ["Census", "KuaiRand", "mean AUC of the four tasks: gain over LightGBM"]
    assert record["measured"]["census_income_auc"] == "d1"


def test_absent_data_is_null_with_a_note(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ranker_quality, "data_folder", lambda name: None)
    ranker_quality.main(["--quick", "--no-progress"])
    lines = capsys.readouterr().out.splitlines()
    assert set(json.loads(lines[-1])["figures"].values()) == {None}
    assert any("SCOREFUSION_DATA" in line for line in lines[:-1])
