"""A comparison keeps its finished runs, goes on after a kill, chooses by validation and says what does not fit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from ranker.checks import example_log
from ranker.config import TrainConfig
from ranker.recipes import generic
from workflow.cli import main
from workflow.contest import Entry, chosen, contest, names_of, summary
from workflow.train import options_of

SPEC = """
tasks: [{name: click}, {name: watch_s, kind: regression, unit_of_measure: s}]
features: [{name: user_id, side: user}, {name: item_id}, {name: price, kind: dense}]
"""
QUICK = TrainConfig(epochs=1, batch_size=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("contest")
    log = example_log(400, 0)
    log = log.with_columns({"click": ((log["item_id"] % 3 == 0) ^ (np.random.default_rng(1).random(400) < 0.1)).astype(float)})
    LoggedDataset({name: log[name] for name in log if name not in ("history", "seen", "tags")}).to_parquet(root / "log.parquet")
    (root / "spec.yaml").write_text(SPEC)
    return root


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    where = ["--recipe", "log", "--data", str(data / "log.parquet"), "--spec", str(data / "spec.yaml")]
    out_to = ["--artefacts", str(out / "artefacts"), "--runs", str(out / "runs"), "--threads", "1"]
    return ["train", *where, *out_to, "--epochs", "1", *more]


def test_a_comparison_ends_with_a_table_a_page_and_the_chosen_ranker(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, tmp_path, "--models", "single_task,mmoe", "--seeds", "2")) == 0
    printed = capsys.readouterr().out
    value = json.loads((tmp_path / "runs" / "comparison.json").read_text())
    (gain,) = (row["gain"] for row in value["test"] if (row["model"], row["task"]) == ("mmoe", "click"))
    store = ArtefactStore(tmp_path / "runs")
    kept = {n: store.load("ranker", n).manifest["metrics"] for n in store.names("ranker")}
    assert sorted(kept) == ["mmoe-fixed-0", "mmoe-fixed-1", "single_task-fixed-0", "single_task-fixed-1"]
    aucs = {name: metrics["test"]["click"]["auc"] for name, metrics in kept.items()}
    gains = [aucs[f"mmoe-fixed-{seed}"] - aucs[f"single_task-fixed-{seed}"] for seed in (0, 1)]
    assert gain["mean"] == pytest.approx(np.mean(gains))
    assert gain["std"] == pytest.approx(np.std(gains, ddof=1))
    means = {m: np.mean([kept[f"{m}-fixed-{s}"]["chosen_by"] for s in (0, 1)]) for m in ("single_task", "mmoe")}
    assert value["chosen"]["model"] == max(means, key=lambda m: means[m])
    assert f"chosen on the validation rows: {value['chosen']['model']}" in printed
    assert " ± " in printed
    page = (tmp_path / "runs" / "comparison.html").read_text()
    assert "Test rows" in page
    assert page.count('class="plot"') == 4
    made = ArtefactStore(tmp_path / "artefacts").load("ranker", "ranker")
    assert made.config["model"] == value["chosen"]["model"]

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "ranker").rglob("*")}
    assert main(arguments(data, tmp_path, "--models", "single_task,mmoe", "--seeds", "2", "--name", "again")) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "ranker").rglob("*")} == before  # nothing ran again
    assert main(arguments(data, tmp_path, "--models", "mmoe", "--batch-size", "32")) == 2  # other settings, the same folder
    assert "choose another folder" in capsys.readouterr().err


def test_balances_are_compared_likewise_and_what_does_not_fit_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(arguments(data, tmp_path, "--model", "single_task", "--balance", "all", "--tensorboard", str(tmp_path / "tb"))) == 0
    )
    printed = capsys.readouterr().out
    assert "single_task, uncertainty" in printed
    assert "left out: single_task with gradnorm: SingleTask shares no dense layer" in printed
    assert {p.name for p in (tmp_path / "tb").iterdir()} == {
        f"single_task-{b}-0" for b in ("fixed", "decay", "uncertainty", "dwa")
    }
    assert main(arguments(data, tmp_path / "b", "--models", "single_task", "--balance", "gradnorm")) == 2
    assert "shares no dense layer" in capsys.readouterr().err


def test_architectures_that_these_data_cannot_feed_are_left_out(data: Path, tmp_path: Path) -> None:
    recipe = generic.load(data / "log.parquet", data / "spec.yaml")
    entries = [Entry(model, "fixed") for model in ("din", "dupn", "shared_bottom")]
    runs, left_out = contest(
        recipe, entries, config=QUICK, options={}, seeds=[0], folder=tmp_path, skip_unfit=True, progress=False
    )
    assert [run.entry.model for run in runs] == ["shared_bottom"]
    assert set(left_out) == {"din with fixed", "dupn with fixed"}
    with pytest.raises(ConfigError, match="none of the compared rankers fits"):
        contest(recipe, entries[:2], config=QUICK, options={}, seeds=[0], folder=tmp_path, skip_unfit=True, progress=False)
    assert chosen(runs) == (entries[2], runs[0])
    assert np.isnan(summary(runs, "valid")[0]["gain"]["mean"])


def test_a_killed_comparison_goes_on_to_the_same_table(data: Path, tmp_path: Path) -> None:
    """kill -9 after the first finished run; the second start trains the others only, and ends as one that was not killed."""
    asked = ["--models", "shared_bottom,omoe,mmoe", "--epochs", "3"]
    command = [sys.executable, "-m", "workflow.cli", *arguments(data, tmp_path, *asked)]
    first = tmp_path / "runs" / "ranker" / "shared_bottom-fixed-0" / "v1"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not first.exists():
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    made = (first / "manifest.json").stat().st_mtime_ns
    assert main(arguments(data, tmp_path, *asked)) == 0
    assert (first / "manifest.json").stat().st_mtime_ns == made
    assert main(arguments(data, tmp_path / "whole", *asked)) == 0
    for name in ("shared_bottom", "omoe", "mmoe"):
        a, b = (ArtefactStore(root / "runs").load("ranker", f"{name}-fixed-0") for root in (tmp_path, tmp_path / "whole"))
        assert a.manifest["files"] == b.manifest["files"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--models", "mmoe,bert"], "unknown 'bert'"),
        (["--balance", "equal"], "unknown 'equal'"),
        (["--seeds", "0"], "--seeds 0"),
        (["--workers", "0"], "--workers 0 must be at least 1"),
        (["--workers", "2", "--models", "mmoe"], "--workers spreads one training"),
        (["--workers", "2", "--from", "ranker/x"], "--from keeps the ranker's own options"),
        (["--seeds", "2", "--from", "ranker/x"], "--from goes on with one ranker"),
        (["--models", "mmoe", "--options", "{n_experts: 3}"], "'n_experts' must be an architecture"),
        (["--models", "mmoe", "--options", "{mmoe: {n_expert: 3}}"], "unknown option 'n_expert'"),
    ],
)
def test_wrong_comparisons_are_one_line(
    data: Path, tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, tmp_path, *more)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scorefusion: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_recipes_options_stand_under_those_given(data: Path) -> None:
    recipe = replace(generic.load(data / "log.parquet", data / "spec.yaml"), options={"hidden": (16, 8), "dropout": 0.3})
    found = options_of(recipe, ["mmoe", "ple", "single_task"], {"mmoe": {"n_experts": 2, "dropout": 0.1}})
    assert found == {
        "mmoe": {"hidden": [16, 8], "dropout": 0.1, "n_experts": 2},
        "ple": {"levels": [[16], [8]], "dropout": 0.3},
        "single_task": {"hidden": [16, 8], "dropout": 0.3},
    }


def test_data_sets_by_task_take_turns(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = LoggedDataset.from_parquet(data / "log.parquet")
    for name, left_out in (("clicks", "watch_s"), ("watching", "click")):
        LoggedDataset({n: log[n] for n in log if n != left_out}).to_parquet(tmp_path / f"{name}.parquet")
    asked = arguments(data, tmp_path, "--training", "{alternate: data_set}", "--also", str(tmp_path / "watching.parquet"))
    asked[asked.index("--data") + 1] = str(tmp_path / "clicks.parquet")
    assert main(asked) == 0
    metrics = ArtefactStore(tmp_path / "artefacts").load("ranker", "ranker").manifest["metrics"]
    assert metrics["click"]["n"] == metrics["watch_s"]["n"] == 40
    assert main([*asked, "--also", str(data / "clicks.parquet")]) == 2
    assert "two data sets are named 'clicks'" in capsys.readouterr().err


def test_names() -> None:
    assert names_of("--models", "all", ["a", "b"]) == ["a", "b"]
    assert names_of("--models", "b, a,b", ["a", "b"]) == ["b", "a"]
