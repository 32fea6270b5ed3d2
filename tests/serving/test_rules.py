"""Rules after fusion: blocks hold always, quotas hold on the page."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.events import Request
from serving.rules import Rules


def author(column: str, ids: Any) -> Any:
    return ids % 3


def rules(*rows: dict[str, Any]) -> Rules:
    return Rules.parse(rows, author)


@given(st.lists(st.integers(0, 50), min_size=1, unique=True), st.integers(1, 10), st.integers(1, 4))
def test_a_quota_holds_and_nothing_is_lost(ids: list[int], page_size: int, n: int) -> None:
    request = Request("r", "u", np.array(ids), page_size=page_size)
    order = rules({"kind": "max_per_page", "column": "author", "n": n}).apply(np.arange(len(ids)), request)
    assert sorted(order.tolist()) == list(range(len(ids)))
    page = [ids[row] % 3 for row in order[:page_size]]
    possible = sum(min(n, sum(i % 3 == a for i in ids)) for a in range(3))
    if possible >= page_size:
        assert max(page.count(a) for a in set(page)) <= n
    else:  # too few kinds to fill the page: what keeps the quota comes first
        assert max([page[:possible].count(a) for a in range(3)]) <= n


def test_blocked_items_never_show() -> None:
    request = Request("r", "u", np.arange(6))
    order = rules({"kind": "block", "column": "author", "values": [1, 2]}).apply(np.arange(6), request)
    assert order.tolist() == [0, 3]


def test_inline_columns_are_read_first() -> None:
    request = Request("r", "u", np.arange(3), features={"author": np.array([9, 1, 9])})
    assert rules({"kind": "block", "column": "author", "values": [9]}).apply(np.arange(3), request).tolist() == [1]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "hide"}, "kind must be"),
        ({"kind": "block"}, "column must name"),
        ({"kind": "block", "column": "a"}, "values must list"),
        ({"kind": "max_per_page", "column": "a", "n": 0}, "n must be"),
    ],
)
def test_a_bad_rule_is_refused_at_load(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rules(row)
