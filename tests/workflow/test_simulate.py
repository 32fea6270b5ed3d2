"""`scorefusion simulate`: the folder it writes, its errors, the same log with Ray workers, calibration to a log."""

from pathlib import Path

import pytest

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from ranker.predictor import Predictor
from simulator import World
from simulator.calibration import LogModel, sample
from simulator.rollout import join_features
from simulator.settings import PRESETS, load_settings
from workflow.cli import main
from workflow.simulate import settings_of

SMALL = ["--users", "40", "--days", "2", "--set", "n_items=120", "--set", "n_candidates=12"]


def test_a_folder_holds_the_log_the_tables_and_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    assert main(["simulate", "--out", str(out), "--seed", "3", *SMALL]) == 0
    assert "impressions of 40 users over 2 days" in capsys.readouterr().out
    log = LoggedDataset.from_parquet(out / "log.parquet")
    world = World.load(out)
    assert set(log["item_id"]) <= set(LoggedDataset.from_parquet(out / "items.parquet")["item_id"])
    assert all(task in log and f"score_{task}" in log for task in world.tasks.names)
    assert not (out / "parts").exists()


def test_another_seed_another_log_and_the_same_seed_the_same(tmp_path: Path) -> None:
    logs = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(["simulate", "--out", str(tmp_path / name), "--seed", seed, "--sessions", "20", *SMALL]) == 0
        logs.append((tmp_path / name / "log.parquet").read_bytes())
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "moon"], "unknown preset 'moon'"),
        (["--set", "click_rate=-1"], "click_rate -1"),
        (["--set", "page_size=500"], "page_size 500 is larger than n_candidates"),
        (["--set", "click_rate"], "NAME=VALUE"),
        (["--workers", "0"], "--workers 0"),
        (["--sessions", "0"], "at least 1"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_written(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_settings_of_reads_yaml() -> None:
    assert settings_of(["need={click: 1}"]) == {"need": {"click": 1}}
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        settings_of(["x"])


def test_ray_workers_write_the_same_log(tmp_path: Path) -> None:
    for name, workers in (("one", "1"), ("two", "2")):
        assert main(["simulate", "--out", str(tmp_path / name), "--workers", workers, "--sessions", "30", *SMALL]) == 0
    assert (tmp_path / "one" / "log.parquet").read_bytes() == (tmp_path / "two" / "log.parquet").read_bytes()


def test_a_trained_ranker_scores_the_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, store = tmp_path / "first", tmp_path / "again", str(tmp_path / "artefacts")
    often = "heads={" + ", ".join(f"{name}: {{rate: 0.3}}" for name in load_settings("default").heads) + "}"
    assert main(["simulate", "--out", str(first), "--sessions", "100", "--set", often, *SMALL]) == 0
    training = ["--data", str(first), "--artefacts", store, "--epochs", "1", "--model", "shared_bottom", "--batch-size", "512"]
    assert main(["train", *training, "--name", "all"]) == 0
    assert main(["train", *training, "--name", "few", "--tasks", "click,like"]) == 0
    capsys.readouterr()
    options = ["simulate", "--sessions", "30", "--artefacts", store, "--set", often, *SMALL]
    assert main([*options, "--out", str(again), "--ranker", "ranker/all"]) == 0
    log = LoggedDataset.from_parquet(again / "log.parquet")
    items, users = (LoggedDataset.from_parquet(again / f"{name}.parquet") for name in ("items", "users"))
    expected = Predictor.load(ArtefactStore(store).find("ranker/all")).predict(join_features(items, users, log))
    for task in World.load(again).tasks.names:
        assert log[f"score_{task}"] == pytest.approx(expected[task], rel=1e-4, abs=1e-6), task
    assert main([*options, "--out", str(tmp_path / "no"), "--ranker", "ranker/few"]) == 2
    assert "the ranker lacks task 'long_view'" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_calibration_ends_with_a_preset_that_makes_a_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = sample(LogModel.load(PRESETS / "kuairand.log.json"), seed=1, n_days=6, scale=0.1).to_parquet(tmp_path / "log.parquet")
    out = tmp_path / "mine"
    assert main(["simulate", "--calibrate", str(log), "--fit-days", "4", "--out", str(out)]) == 0
    assert "fitted on 4 days, judged on 2" in capsys.readouterr().out
    assert load_settings(out / "world.yaml").click_rate == pytest.approx(0.45, abs=0.05)
    assert (out / "calibration.html").stat().st_size > 10_000
    assert main(["simulate", "--calibrate", str(log), "--fit-days", "6", "--out", str(out)]) == 2
