"""`scorefusion learn`: from a scored log to a published monotone fusion with a report, resumable, clear about wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from core.scores import ScoreTable
from fusion.learned.base import LearnedStrategy
from fusion.strategy import load_strategy
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, train
from tests.fusion.conftest import TASKS, make_log
from workflow.cli import main

SPEC = {
    "tasks": [{"name": "click"}, {"name": "like"}, {"name": "hate", "goal": "down"}],
    "features": [{"name": "hour", "kind": "dense", "side": "request"}],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published ranker of three tasks, and a log with better scores than its own."""
    folder = tmp_path_factory.mktemp("learn")
    log = make_log(4000, seed=6)
    spec = FeatureSpec.from_json(SPEC)
    tiny = train(spec, "shared_bottom", train=log, valid=log, config=TrainConfig(epochs=1), progress=False)
    for name in ("tiny", "other"):
        tiny.publish(ArtefactStore(folder / "artefacts"), name)
    log.with_columns({"time_ms": np.arange(len(log))}).to_parquet(folder / "scored.parquet")
    return folder


def arguments(root: Path, *more: str) -> list[str]:
    where = ["--log", str(root / "scored.parquet"), "--ranker", "ranker/tiny", "--artefacts", str(root / "artefacts")]
    return ["learn", *where, "--gains", "{click: 1, like: 4}", "--rounds", "3", *more]


def published(root: Path, name: str) -> LearnedStrategy:
    strategy = load_strategy(ArtefactStore(root / "artefacts").load("strategy", name))
    assert isinstance(strategy, LearnedStrategy)
    return strategy


QUICK = "{steps_a_round: 20, batch: 256}"


@pytest.mark.parametrize(("kind", "options"), [("lambdamart", "{min_rows: 20}"), ("monotone", QUICK)])
def test_it_publishes_a_fusion_that_fits_its_ranker(
    root: Path, kind: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = root / kind
    assert main(arguments(root, "--kind", kind, "--options", options, "--name", kind, "--out", str(out))) == 0
    assert "gain over hand_set on later days" in capsys.readouterr().out
    assert ArtefactStore(root / "artefacts").load("strategy", kind).manifest["parents"] == {"ranker": "ranker/tiny/v1"}
    strategy = published(root, kind)
    assert strategy.inputs.signs == (1, 1, -1)
    assert strategy.calibration is not None
    found = json.loads((out / "learned.json").read_text())
    assert found["control"] == "hand_set"
    assert {task: row["sign"] for task, row in found["tasks"].items()} == {"click": 1, "like": 1, "hate": -1}
    assert found["values"]["learned"]["low"] < found["values"]["learned"]["value"] < found["values"]["learned"]["high"]
    assert found["gain_over"]["hand_set"]["low"] is not None
    assert [answer["wrong_steps"] for answer in found["responses"].values()] == [0, 0, 0]
    assert set(found["drift"]) == set(TASKS)
    page = (out / "report.html").read_text()
    assert found["proof"] in page.replace("&#x27;", "'")
    assert "http://" not in page.split("</script>", 1)[1]


def test_a_student_of_what_was_published_and_learned(root: Path) -> None:
    teach = ["--kind", "lambdamart", "--options", "{min_rows: 20}", "--name", "teacher"]
    assert main(arguments(root, *teach)) == 0
    student = ["--kind", "distill", "--student", "monotone", "--teachers", "strategy/teacher", "--against", "strategy/teacher"]
    out = root / "student"
    assert main(arguments(root, *student, "--options", QUICK, "--name", "student", "--out", str(out))) == 0
    assert published(root, "student").kind == "monotone_network"
    assert set(json.loads((out / "learned.json").read_text())["gain_over"]) == {"hand_set", "strategy/teacher/v1"}


def test_the_same_command_again_reads_its_rounds_and_ends_the_same(root: Path) -> None:
    again = ["--kind", "monotone", "--options", QUICK, "--name", "again", "--out", str(root / "again")]
    table = ScoreTable(TASKS, np.random.default_rng(0).random((9, 3)))
    finals = []
    for _ in range(2):
        assert main(arguments(root, *again)) == 0
        finals.append(published(root, "again").fuse(table, {}).final)
    np.testing.assert_array_equal(finals[0], finals[1])


def test_a_release_is_published_listed_and_measured_for_drift(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--artefacts", str(root / "artefacts")]
    assert main(["publish", *where, "--name", "plain", "--formula", "click", "--ranker", "ranker/tiny"]) == 0
    release = ["publish", *where, "--release", "prod", "--ranker", "ranker/tiny", "--strategies", "{a: strategy/plain}"]
    assert main([*release, "--reference", str(root / "scored.parquet")]) == 0
    made = ArtefactStore(root / "artefacts").load("release", "prod")
    assert made.manifest["parents"] == {"ranker": "ranker/tiny/v1", "strategy a": "strategy/plain/v1"}
    assert main(["publish", *where, "--list"]) == 0
    assert "release/prod/v1" in capsys.readouterr().out
    (root / "spec.yaml").write_text(json.dumps(SPEC))
    rows = ["--recipe", "log", "--data", str(root / "scored.parquet"), "--spec", str(root / "spec.yaml")]
    evaluate = ["evaluate", *where, *rows, "--part", "all", "--ranker", "ranker/tiny", "--json", str(root / "drift.json")]
    assert main([*evaluate, "--drift", "release/prod"]) == 0
    assert "other scores: fit the fusion again" in capsys.readouterr().out  # the tiny ranker's scores are not those of the log
    assert json.loads((root / "drift.json").read_text())["drift"]["click"] > 0.25
    assert main([*release[:-1], "{a: strategy/plain, b: ranker/tiny}"]) == 2
    assert main([*evaluate, "--drift", "strategy/plain"]) == 2


def no_gains(root: Path) -> list[str]:
    return arguments(root, "--gains", "")


def unknown_label(root: Path) -> list[str]:
    return arguments(root, "--gains", "{buy: 1}")


def unknown_option(root: Path) -> list[str]:
    return arguments(root, "--options", "{depth: 3}")


def text_as_context(root: Path) -> list[str]:
    return arguments(root, "--context", "weather")


def too_few_days(root: Path) -> list[str]:
    return arguments(root, "--heldout-days", "3")


def no_log(root: Path) -> list[str]:
    return arguments(root, "--log", str(root / "none.parquet"))


def unscored_log(root: Path) -> list[str]:
    log = LoggedDataset.from_parquet(root / "scored.parquet")
    LoggedDataset({n: log[n] for n in log if n != "score_like"}).to_parquet(root / "unscored.parquet")
    return arguments(root, "--log", str(root / "unscored.parquet"))


def anothers_teacher(root: Path) -> list[str]:
    formula = ["--name", "foreign", "--formula", "click", "--ranker", "ranker/other"]
    assert main(["publish", "--artefacts", str(root / "artefacts"), *formula]) == 0
    return arguments(root, "--kind", "distill", "--teachers", "strategy/foreign")


def teachers_without_distilling(root: Path) -> list[str]:
    assert (
        main(
            ["publish", "--artefacts", str(root / "artefacts"), "--name", "own", "--formula", "click", "--ranker", "ranker/tiny"]
        )
        == 0
    )
    return arguments(root, "--teachers", "strategy/own")


Case = Callable[[Path], list[str]]
WRONG: dict[Case, str] = {
    no_gains: "--gains is missing",
    unknown_label: "'buy'",
    unknown_option: "no option 'depth'",
    text_as_context: "'weather'",
    too_few_days: "days",
    no_log: "no Parquet file",
    unscored_log: "'score_like'",
    anothers_teacher: "fitted to the scores of ranker/other/v1, not of ranker/tiny/v1",
    teachers_without_distilling: "--kind distill",
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.__name__)
def test_wrong_input_is_one_clear_line(root: Path, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    command = case(root)
    before = sorted((root / "artefacts").rglob("manifest.json"))
    capsys.readouterr()
    assert main(command) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scorefusion: ")]
    assert len(errors) == 1
    assert WRONG[case] in errors[0]
    assert sorted((root / "artefacts").rglob("manifest.json")) == before
