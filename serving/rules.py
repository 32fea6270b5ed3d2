"""Rules after fusion: what is never shown (block) and how many of one kind fit on a page (max_per_page)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import AnyArray, Ints
from core.errors import ConfigError
from core.events import Request

Lookup = Callable[[str, Ints], AnyArray]  # a column's values for item ids


@dataclass(frozen=True, slots=True)
class Rule:
    """`block` drops items whose `column` is one of `values`; `max_per_page` keeps at most `n` of each value of `column`."""

    kind: str
    column: str
    values: frozenset[Any] = frozenset()
    n: int = 0


class Rules:
    """Rules in their order, applied to an order of candidates.

    >>> author = {1: "a", 2: "a", 3: "b"}
    >>> rules = Rules.parse([{"kind": "max_per_page", "column": "author", "n": 1}],
    ...                     lambda column, ids: np.array([author[i] for i in ids.tolist()]))
    >>> rules.apply(np.array([1, 0, 2]), Request("r", "u", np.array([1, 2, 3]), page_size=2)).tolist()
    [1, 2, 0]
    """

    def __init__(self, rules: Sequence[Rule], lookup: Lookup | None = None) -> None:
        self._rules = tuple(rules)
        self._lookup = lookup

    def __bool__(self) -> bool:
        return bool(self._rules)

    @classmethod
    def parse(cls, rows: Sequence[Mapping[str, Any]], lookup: Lookup) -> Rules:
        """Rules from settings, with the item columns they read.

        Raises:
            ConfigError: A rule is of no known kind or lacks its fields.
        """
        return cls([_rule(row) for row in rows], lookup)

    def apply(self, order: Ints, request: Request) -> Ints:
        """The order with blocked rows removed, and rows beyond a page's quota moved behind the page."""
        assert self._lookup is not None or not self._rules
        for rule in self._rules:
            values = self._values(rule.column, request)[order].tolist()
            if rule.kind == "block":
                order = order[[value not in rule.values for value in values]]
            else:
                order = _quota(order, values, rule.n, request.page_size)
        return order

    def _values(self, column: str, request: Request) -> AnyArray:
        if request.features is not None and column in request.features:
            return request.features[column]
        assert self._lookup is not None
        return self._lookup(column, request.candidates)


def _quota(order: Ints, values: list[Any], n: int, page_size: int) -> Ints:
    seen: dict[Any, int] = {}
    kept: list[int] = []
    held: list[int] = []
    for row, value in zip(order.tolist(), values, strict=True):
        count = seen.get(value, 0)
        if len(kept) < page_size and count >= n:
            held.append(row)
            continue
        seen[value] = count + 1
        kept.append(row)
    return np.array(kept[:page_size] + held + kept[page_size:], np.int64)


def _rule(row: Mapping[str, Any]) -> Rule:
    kind, column = row.get("kind"), row.get("column")
    if kind not in ("block", "max_per_page"):
        raise ConfigError(f"rule {dict(row)!r}: kind must be block or max_per_page")
    if not isinstance(column, str):
        raise ConfigError(f"rule {dict(row)!r}: column must name an item feature")
    if kind == "block":
        if not isinstance(row.get("values"), list):
            raise ConfigError(f"rule {dict(row)!r}: values must list what is never shown")
        return Rule(kind, column, frozenset(row["values"]))
    if type(row.get("n")) is not int or row["n"] < 1:
        raise ConfigError(f"rule {dict(row)!r}: n must be a whole number from 1")
    return Rule(kind, column, n=row["n"])
