"""Columns become rows and numbers the same way every time; holes, copies of labels and missing columns are refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load

from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.encoder import Encoder, id_order
from ranker.features import Feature, FeatureSpec

TASKS = TaskSet([TaskSpec("click")])


def lists(*rows: list[int]) -> np.ndarray:
    out = np.empty(len(rows), object)
    out[:] = [np.array(row, np.int64) for row in rows]
    return out


def log() -> LoggedDataset:
    return LoggedDataset(
        {
            "user_id": np.array([1, 2, 1]),
            "item_id": np.array([10, 20, 30]),
            "tags": lists([5, 6], [], [6]),
            "history": lists([10, 20, 30], [10], []),
            "price": np.array([1.0, 2.0, 3.0]),
            "click": np.array([1, 0, 0]),
        }
    )


SPEC = FeatureSpec(
    [
        Feature("user_id", side="user", dim=4),
        Feature("item_id", dim=8),
        Feature("tags", "multi_hot", dim=4),
        Feature("history", "sequence", "user", dim=8, shares="item_id", max_len=2),
        Feature("price", "dense"),
    ],
    TASKS,
)


def test_a_table_of_each_width_holds_all_its_features() -> None:
    layout = Encoder.fit(SPEC, log()).layout
    assert layout.tables == {4: 1 + (2 + 2) + (2 + 2), 8: 1 + (2 + 3)}
    assert layout.offsets["history"] == layout.offsets["item_id"]
    assert (layout.width("user"), layout.width("item")) == (4 + 8, 8 + 4 + 1)
    assert [side for side, _ in id_order(layout)] == ["user", "item"]


def test_a_sequence_keeps_its_newest_and_shares_rows() -> None:
    encoder = Encoder.fit(SPEC, log())
    items = encoder.encode("item", log().columns).ids[:, 0]
    history = encoder.encode("user", log().columns).lists["history"]
    assert history.tolist() == [[items[1], items[2]], [items[0], 0], [0, 0]]


def test_unknown_ids_share_a_row_and_files_round_trip() -> None:
    encoder = Encoder.fit(SPEC, log())
    unknown = encoder.encode("item", {**log().columns, "item_id": np.array([77, 78, 10])}).ids[:, 0]
    assert unknown[0] == unknown[1] != unknown[2]
    files = encoder.to_files()
    again = Encoder.from_files(json.loads(files["encoder.json"]), load(files["encoder.safetensors"]))
    assert np.array_equal(again.encode("item", log().columns).ids, encoder.encode("item", log().columns).ids)
    assert again.layout.tables == encoder.layout.tables


def test_growth_adds_rows_for_new_ids_only() -> None:
    encoder = Encoder.fit(SPEC, log())
    more = log().with_columns({"item_id": np.array([10, 40, 50])})
    grown = encoder.grow(more)
    assert grown.layout.rows["item_id"] == encoder.layout.rows["item_id"] + 2
    assert grown.layout.rows["user_id"] == encoder.layout.rows["user_id"]


def test_a_copied_label_is_refused() -> None:
    spec = FeatureSpec([Feature("item_id"), Feature("clicked", "dense")], TASKS)
    with pytest.raises(DataError, match="'clicked' equals the label of task 'click'"):
        Encoder.fit(spec, log().with_columns({"clicked": np.array([1.0, 0.0, 0.0])}))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("price", np.array([1.0, np.nan, 2.0]), "'price' is NaN in row 1"),
        ("item_id", np.array([1.0, 2.0, np.nan]), "'item_id' is missing in row 2"),
    ],
)
def test_holes_are_refused(column: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Encoder.fit(SPEC, log()).encode("item", {**log().columns, column: value})


def test_missing_and_uneven_columns_are_named() -> None:
    encoder = Encoder.fit(SPEC, log())
    with pytest.raises(DataError, match="needs column 'price'"):
        encoder.encode("item", {"item_id": np.array([1]), "tags": lists([1])})
    with pytest.raises(DataError, match="has 1 rows; the others have 3"):
        encoder.encode("item", {**log().columns, "price": np.array([1.0])})
