"""Census in its official split without its answers, and any log with a spec split by time."""

from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest

from core.arrays import AnyArray
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.recipes import census_income, generic


def census(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 200
    columns: dict[str, AnyArray] = {name: rng.integers(0, 50, n) for name in census_income.NUMBERS}
    columns |= {name: rng.integers(0, 2, n) for name in census_income.LABELS}
    for name in ("split", "education", "marital_stat", "income_50k", "sex"):
        columns[name] = np.array(["a", "b"], object)[rng.integers(0, 2, n)]
    columns["split"] = np.array(["train"] * 150 + ["test"] * 50, object)
    columns["instance_weight"] = rng.random(n)
    LoggedDataset(columns).to_parquet(folder / census_income.FILE)
    return folder


def test_census_keeps_the_answers_out(tmp_path: Path) -> None:
    recipe = census_income.load(census(tmp_path))
    assert (len(recipe.train), len(recipe.valid), len(recipe.test)) == (135, 15, 50)
    read = set(recipe.spec.columns())
    assert not read & set(census_income.NEVER)
    assert "education" in read
    assert "education" not in census_income.load(tmp_path, pair="college").spec.columns()
    with pytest.raises(ConfigError, match="'wealth' is not one of"):
        census_income.load(tmp_path, pair="wealth")


SPEC = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click")]))


def log(n: int = 100) -> LoggedDataset:
    rng = np.random.default_rng(0)
    return LoggedDataset({"item_id": np.arange(n) % 5, "time_ms": rng.permutation(n), "click": np.arange(n) % 2})


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_any_log_is_split_by_time(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"log.{ending}"
    if ending == "csv":
        pc.write_csv(log().to_arrow(), path)
    else:
        log().to_parquet(path)
    recipe = generic.load(path, SPEC, valid_share=0.2, test_share=0.1)
    assert recipe.train["time_ms"].max() < recipe.valid["time_ms"].min()
    assert recipe.valid["time_ms"].max() < recipe.test["time_ms"].min()
    assert abs(len(recipe.valid) - 20) <= 1
    assert abs(len(recipe.test) - 10) <= 1


def test_what_cannot_be_split_or_read_is_said(tmp_path: Path) -> None:
    same = log().with_columns({"time_ms": np.zeros(100)}).to_parquet(tmp_path / "same.parquet")
    with pytest.raises(DataError, match="too few different values"):
        generic.load(same, SPEC)
    unlabelled = LoggedDataset({"item_id": np.arange(3), "time_ms": np.arange(3)}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column 'click'"):
        generic.load(unlabelled, SPEC)
    with pytest.raises(ConfigError, match="must be above 0"):
        generic.load(same, SPEC, valid_share=0)
    with pytest.raises(DataError, match="cannot be read"):
        generic.read(tmp_path / "nothing.csv")
