"""`train --stream`: rows from disk, the same ranker as the library's stream makes; what does not go with it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from ranker.checks import example_log
from ranker.features import FeatureSpec
from ranker.predictor import Predictor
from ranker.streaming import train_stream
from ranker.train import TrainConfig
from workflow.cli import main

SPEC = "{tasks: [{name: click}], features: [{name: user_id, side: user}, {name: item_id}]}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    log = example_log(600, 0)
    log = LoggedDataset({name: log[name] for name in ("user_id", "item_id", "time_ms")})
    log = log.with_columns({"click": (log["item_id"] % 3 == 0).astype(float)})
    (tmp_path / "days").mkdir()
    for name, rows in (("days/a", range(300)), ("days/b", range(300, 500)), ("valid", range(500, 600))):
        log.take(np.array(rows)).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def arguments(data: Path, *more: str) -> list[str]:
    rows = ["--recipe", "log", "--data", str(data / "days"), "--spec", str(data / "spec.yaml")]
    where = ["--artefacts", str(data / "artefacts"), "--epochs", "2", "--threads", "1"]
    return ["train", *rows, "--stream", str(data / "valid.parquet"), *where, *more]


def test_a_folder_of_files_is_streamed_and_the_last_rows_judge(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(data, "--report", str(data / "report"), "--tensorboard", str(data / "scalars"))) == 0
    assert "ranker/ranker/v1: mmoe of" in capsys.readouterr().out
    valid = LoggedDataset.from_parquet(data / "valid.parquet")
    spec = FeatureSpec.load(data / "spec.yaml")
    again = train_stream(spec, "mmoe", path=data / "days", valid=valid, config=TrainConfig(epochs=2), progress=False)
    made = Predictor.load(ArtefactStore(data / "artefacts").load("ranker", "ranker"))
    np.testing.assert_allclose(made.predict(valid)["click"], again.predictor.predict(valid)["click"], atol=1e-6)
    assert (data / "report" / "report.html").is_file()
    assert list((data / "scalars").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--models", "all"], "leave --from, comparisons"),
        (["--workers", "2"], "leave --from, comparisons"),
        (["--recipe", "kuairand"], "needs --recipe log"),
        (["--stream", "none.parquet"], "none.parquet"),
    ],
)
def test_what_does_not_go_with_it_is_one_clear_line(
    data: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, *more)) == 2
    assert says in capsys.readouterr().err
    assert not (data / "artefacts").exists()
