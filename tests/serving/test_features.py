"""Feature tables: the right row for every id, one fallback row for the others, inline columns before the table's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from serving.features import UNKNOWN_ID, UNKNOWN_TEXT, FeatureTables, IdIndex, with_fallback


class Rows:
    """Columns as they are."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def take(self, rows: Any) -> Rows:
        return Rows({name: column[rows] for name, column in self.columns.items()})


class Plain:
    """An encoder that changes nothing and counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def encode(self, side: Any, columns: Any, n: int | None = None, *, project: bool = True) -> Rows:
        self.calls.append(side)
        return Rows(dict(columns))


ITEMS = {"item_id": np.array([7, 3]), "price": np.array([1.0, 3.0]), "author": np.array([10, 11])}
USERS = {"user_id": np.array(["ann", "bob"], object), "age": np.array([20, 40])}


def tables(**more: Any) -> FeatureTables:
    return FeatureTables(Plain(), ITEMS, USERS, item_columns=["item_id", "price", "author"], numeric={"age", "price"}, **more)


def test_known_rows_are_found_and_unknown_ones_share_the_fallback() -> None:
    rows, n_unknown = tables().items(np.array([3, 99, 7]))
    assert rows.columns["price"].tolist() == [3.0, 2.0, 1.0]
    assert rows.columns["author"].tolist() == [11, UNKNOWN_ID, 10]
    assert n_unknown == 1


def test_users_are_found_by_their_text() -> None:
    made = tables()
    row, known = made.user("bob")
    assert (row.columns["age"].tolist(), known) == ([40.0], True)
    row, known = made.user("eve")
    assert (row.columns["age"].tolist(), row.columns["user_id"].tolist(), known) == ([30.0], [UNKNOWN_TEXT], False)


def test_inline_columns_go_before_the_tables() -> None:
    rows = tables().inline(np.array([7, 99]), {"price": np.array([5.0, 6.0])})
    assert rows.columns["price"].tolist() == [5.0, 6.0]
    assert rows.columns["author"].tolist() == [10, UNKNOWN_ID]


def test_a_dense_block_needs_a_ranker_of_numbers() -> None:
    with pytest.raises(DataError, match="plain numbers only"):
        tables().inline(np.array([7]), {"dense": np.ones((1, 2))})
    assert tables(matrix=lambda block: block.sum()).inline(np.array([7]), {"dense": np.ones((1, 2))}) == 2.0


def test_request_features_are_encoded_once_a_combination() -> None:
    encoder = Plain()
    made = FeatureTables(encoder, ITEMS, USERS, request=["hour", "scenario"])
    for hour in (1, 2, 1, 1):
        made.request("home", {"hour": hour, "other": object()})
    assert encoder.calls.count("request") == 2
    assert made.request("home", {}).columns["hour"].tolist() == [UNKNOWN_TEXT]
    assert tables().request("home", {}) is None


@given(st.lists(st.integers(-(2**62), 2**62), unique=True, max_size=20), st.lists(st.integers(-(2**62), 2**62), max_size=20))
def test_the_index_agrees_with_a_dict(known: list[int], asked: list[int]) -> None:
    index = IdIndex(np.array(known, np.int64))
    expected = {item: row for row, item in enumerate(known)}
    ids = np.array(asked + known, np.int64)
    assert index.rows(ids).tolist() == [expected.get(i, len(known)) for i in ids.tolist()]


@given(st.lists(st.integers(0, 500), unique=True, min_size=1, max_size=50), st.lists(st.integers(-5, 2**40), max_size=20))
def test_the_direct_index_agrees_as_well(known: list[int], asked: list[int]) -> None:
    index = IdIndex(np.array(known, np.int64))
    expected = {item: row for row, item in enumerate(known)}
    assert index.rows(np.array(asked, np.int64)).tolist() == [expected.get(i, len(known)) for i in asked]


def test_lists_and_blocks_get_a_fallback_row_too() -> None:
    lists = np.empty(2, object)
    lists[:] = [np.array([1, 2]), np.array([3])]
    grown = with_fallback({"tags": lists, "vector": np.array([[1.0, 2.0], [3.0, 4.0]]), "new": np.array([True, False])})
    assert len(grown["tags"][2]) == 0
    assert grown["vector"][2].tolist() == [2.0, 3.0]
    assert not grown["new"][2]


@pytest.mark.parametrize(
    ("items", "users", "words"),
    [
        ({"price": np.ones(1)}, USERS, "no column item_id"),
        ({"item_id": np.array(["a"], object)}, USERS, "whole numbers"),
        ({"item_id": np.array([1, 1])}, USERS, "item_id twice"),
        (ITEMS, {"user_id": np.array([1, 1])}, "user_id twice"),
        (ITEMS, {"age": np.ones(1)}, "no column user_id"),
    ],
)
def test_a_bad_table_is_refused(items: Any, users: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        FeatureTables(Plain(), items, users)
