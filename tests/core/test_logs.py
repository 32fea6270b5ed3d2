"""Logged datasets: columns stay equally long, Parquet keeps them, splits neither lose nor double a row."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from core.logs import LoggedDataset


def example() -> LoggedDataset:
    history = np.empty(3, dtype=object)
    history[:] = [np.array([1, 2]), np.array([], dtype=np.int64), np.array([3])]
    return LoggedDataset(
        {
            "user_id": np.array(["a", "b", "a"], dtype=object),
            "item_id": np.array([1, 2, 3]),
            "click": np.array([1.0, np.nan, 0.0]),
            "history": history,
            "embedding": np.arange(6, dtype=np.float32).reshape(3, 2),
        }
    )


def test_parquet_keeps_every_kind_of_column(tmp_path: Path) -> None:
    log = example()
    back = LoggedDataset.from_parquet(log.to_parquet(tmp_path / "deep" / "log.parquet"))
    assert back["user_id"].tolist() == ["a", "b", "a"]
    assert [list(values) for values in back["history"]] == [[1, 2], [], [3]]
    np.testing.assert_array_equal(back["embedding"], log["embedding"])
    np.testing.assert_array_equal(back["click"], log["click"])
    assert back.fingerprint() == log.fingerprint()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["log.parquet"]


def test_fingerprint_is_of_the_values_not_of_where_they_lie() -> None:
    def lists(*words: str) -> LoggedDataset:
        column = np.empty(2, object)
        column[:] = [np.array(["".join(list(word)) for word in words], object), np.array([], object)]
        return LoggedDataset({"past": column})

    assert lists("like", "click").fingerprint() == lists("like", "click").fingerprint()
    assert lists("like", "click").fingerprint() != lists("like", "long").fingerprint()


def test_fingerprint_sees_one_changed_value() -> None:
    log = example()
    assert log.with_columns({"item_id": np.array([1, 2, 4])}).fingerprint() != log.fingerprint()


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, day in (("b", 2), ("a", 1)):
        LoggedDataset({"day": np.array([day])}).to_parquet(tmp_path / f"{name}.parquet")
    assert LoggedDataset.from_parquet(tmp_path)["day"].tolist() == [1, 2]


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 9), st.integers(0, 9))
def test_time_split_is_a_partition(days: list[int], a: int, b: int) -> None:
    log = LoggedDataset({"day": np.array(days, dtype=np.int64), "row": np.arange(len(days))})
    low, high = min(a, b), max(a, b)
    parts = log.split_time(low, high, by="day")
    assert sorted(np.concatenate([part["row"] for part in parts]).tolist()) == list(range(len(days)))
    for part, first, last in zip(parts, (-1, low, high), (low, high, 9), strict=True):
        assert all(first < day <= last for day in part["day"])


def test_group_split_shares_no_user() -> None:
    log = LoggedDataset({"user_id": np.repeat(np.arange(200), 3)})
    train, held_out = log.split_groups(0.25, seed=1)
    assert not set(train["user_id"]) & set(held_out["user_id"])
    assert len(train) + len(held_out) == 600
    assert 25 < len(set(held_out["user_id"])) < 75


def test_errors_name_the_column_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differ in length: 'b' has 1 rows"):
        LoggedDataset({"a": np.zeros(2), "b": np.zeros(1)})
    with pytest.raises(DataError, match="no column 'click'"):
        LoggedDataset({"a": np.zeros(2)}).require(["click"])
    with pytest.raises(DataError, match="log is empty"):
        LoggedDataset({"a": np.zeros(0)}).require(["a"])
    with pytest.raises(DataError, match="no Parquet file"):
        LoggedDataset.from_parquet(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not readable Parquet"):
        LoggedDataset.from_parquet(tmp_path / "bad.parquet")
