"""Targeting: who an experiment is for, as a checked expression over declared attributes; never `eval`."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from core.arrays import AnyArray, Bools
from core.errors import ConfigError

AttributeKind = Literal["text", "number", "flag"]
_KINDS: Mapping[str, AttributeKind] = {kind: kind for kind in get_args(AttributeKind)}
_MAX_LENGTH = 2_000
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_PYTHON: Mapping[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "flag": (bool,)}


@dataclass(frozen=True)
class Target:
    """A condition on a unit's attributes: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, `and`, `or`, `not`.

    An absent (or None) attribute makes a comparison unknown; unknown is carried through and/or/not as SQL does, and a unit for
    which the whole condition is unknown is not targeted.

    >>> german = Target.parse('country in ["DE", "AT"] and not age < 18', {"country": "text", "age": "number"})
    >>> german.matches({"country": "DE", "age": 30}), german.matches({"country": "DE"})
    (True, False)
    >>> german.matches_many({"country": np.array(["DE", "FR"]), "age": np.array([30, 40])}, 2).tolist()
    [True, False]
    """

    text: str
    names: frozenset[str]
    _one: Callable[[Mapping[str, Any]], bool | None]
    _many: Callable[[Mapping[str, Column]], tuple[Bools, Bools]]

    def matches(self, attributes: Mapping[str, Any]) -> bool:
        """Whether one unit is targeted."""
        return self._one(attributes) is True

    def matches_many(self, columns: Mapping[str, AnyArray | Column], n: int) -> Bools:
        """Which of `n` units are targeted; an attribute without a column is absent for all. NaN and None are absent."""
        true, _ = self._many({**encode_columns(columns), "": Column(np.zeros(n))})
        return true

    @classmethod
    def parse(cls, text: str, attributes: Mapping[str, AttributeKind]) -> Target:
        """Check an expression against the declared attributes.

        Raises:
            ConfigError: Bad syntax, an unknown attribute, or a comparison of unlike kinds.
        """
        if len(text) > _MAX_LENGTH:
            raise ConfigError(f"target of {len(text)} characters; at most {_MAX_LENGTH} are allowed: split the experiment")
        try:
            tree = ast.parse(text, mode="eval").body
            names: set[str] = set()
            one, many = _build(tree, text, attributes, names)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"target {text!r} is not an expression ({error}); write for instance: country == 'DE'") from error
        return cls(text, frozenset(names), one, many)


class Column:
    """An attribute of `[n]` units; text is kept once a distinct value, so that a test looks at each text once."""

    def __init__(self, values: AnyArray) -> None:
        array = np.asarray(values)
        self._values, self._codes = array, None
        self._known: Bools | None = ~np.isnan(array) if array.dtype.kind == "f" else None
        if array.dtype.kind not in "biuf":
            encoded = pa.array(array.astype(object), from_pandas=True).dictionary_encode()
            self._values = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
            self._codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()

    def __len__(self) -> int:
        return len(self._values) if self._codes is None else len(self._codes)

    def split(self, test: Callable[[Any], Any]) -> tuple[Bools, Bools]:
        """Where a test holds and where it does not, `[n]` each; neither where the value is absent or of another kind."""
        if self._codes is None:
            try:
                true = np.broadcast_to(np.asarray(test(self._values), bool), self._values.shape)
            except TypeError:
                absent = np.zeros(len(self), bool)
                return absent, absent
            return (true, ~true) if self._known is None else (true & self._known, ~true & self._known)
        answers = np.array([_answer(test, value) for value in self._values], np.int8)[self._codes]
        return answers == 1, answers == 0


def encode_columns(columns: Mapping[str, AnyArray | Column]) -> dict[str, Column]:
    """Attribute columns made ready for many targets."""
    return {name: column if isinstance(column, Column) else Column(column) for name, column in columns.items()}


def _answer(test: Callable[[Any], Any], value: Any) -> int:
    if value is None or value != value:
        return -1
    try:
        return int(bool(test(value)))
    except TypeError:
        return -1  # a text where a number was declared: as good as absent


def check_attributes(declared: Mapping[str, str]) -> dict[str, AttributeKind]:
    """Declared attributes, once their names and kinds are sound."""
    for name, kind in declared.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"attribute {name!r} is not an identifier; use letters, digits and _")
        if kind not in _KINDS:
            raise ConfigError(f"attribute {name!r}: kind {kind!r} is not one of {', '.join(_KINDS)}")
    return {name: _KINDS[kind] for name, kind in declared.items()}


_One = Callable[[Mapping[str, Any]], bool | None]
_Many = Callable[[Mapping[str, Column]], tuple[Bools, Bools]]


def _build(node: ast.expr, text: str, kinds: Mapping[str, AttributeKind], names: set[str]) -> tuple[_One, _Many]:
    if isinstance(node, ast.BoolOp):
        parts = [_build(value, text, kinds, names) for value in node.values]
        joined = _all if isinstance(node.op, ast.And) else _any
        return joined([one for one, _ in parts], [many for _, many in parts])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _not(*_build(node.operand, text, kinds, names))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.left, ast.Name):
        names.add(node.left.id)
        return _comparison(node.left.id, node.ops[0], node.comparators[0], text, kinds)
    if isinstance(node, ast.Name) and kinds.get(node.id) == "flag":
        names.add(node.id)
        return _leaf(node.id, lambda value: value == True)  # noqa: E712  # elementwise on arrays
    raise ConfigError(
        f"target {text!r}: {ast.unparse(node)!r} is not allowed; write `attribute op value` joined by and, or, not "
        f"(op: == != < <= > >= in), or a flag's name"
    )


def _comparison(name: str, op: ast.cmpop, right: ast.expr, text: str, kinds: Mapping[str, AttributeKind]) -> tuple[_One, _Many]:
    if name not in kinds:
        known = ", ".join(sorted(kinds)) or "none"
        raise ConfigError(f"target {text!r}: unknown attribute {name!r}; declared attributes are {known}")
    kind = kinds[name]
    try:
        value = ast.literal_eval(right)
    except ValueError as error:
        raise ConfigError(f"target {text!r}: {ast.unparse(right)!r} is not a plain value; use a text, number or list") from error
    among = isinstance(op, (ast.In, ast.NotIn))
    if among and not isinstance(value, (list, tuple, set)):
        raise ConfigError(f"target {text!r}: `in` needs a list, such as {name} in ['a', 'b']")
    for item in value if among else [value]:
        if not isinstance(item, _PYTHON[kind]) or (kind == "number" and isinstance(item, bool)):
            raise ConfigError(f"target {text!r}: {name!r} is a {kind}, {item!r} is not; compare like with like")
    if among:
        allowed = frozenset(value)
        listed = np.array(sorted(allowed)) if kind != "text" else np.array([], float)
        inside = isinstance(op, ast.In)

        def member(x: Any) -> Any:
            return (np.isin(x, listed) if isinstance(x, np.ndarray) else x in allowed) == inside

        return _leaf(name, member)
    if type(op) not in _COMPARE:
        raise ConfigError(f"target {text!r}: this comparison is not allowed; use == != < <= > >= in")
    if kind == "flag" and not isinstance(op, (ast.Eq, ast.NotEq)):
        raise ConfigError(f"target {text!r}: {name!r} is a flag; compare it by == or != only")
    compare = _COMPARE[type(op)]
    return _leaf(name, lambda x: compare(x, value))


def _leaf(name: str, test: Callable[[Any], Any]) -> tuple[_One, _Many]:
    def one(attributes: Mapping[str, Any]) -> bool | None:
        answer = _answer(test, attributes.get(name))
        return None if answer < 0 else answer == 1

    def many(columns: Mapping[str, Column]) -> tuple[Bools, Bools]:
        if name not in columns:
            absent = np.zeros(len(columns[""]), bool)
            return absent, absent
        return columns[name].split(test)

    return one, many


def _not(one: _One, many: _Many) -> tuple[_One, _Many]:
    def negated(attributes: Mapping[str, Any]) -> bool | None:
        value = one(attributes)
        return None if value is None else not value

    def swapped(columns: Mapping[str, Column]) -> tuple[Bools, Bools]:
        true, false = many(columns)
        return false, true

    return negated, swapped


def _all(ones: list[_One], manys: list[_Many]) -> tuple[_One, _Many]:
    def one(attributes: Mapping[str, Any]) -> bool | None:
        result: bool | None = True
        for part in ones:
            value = part(attributes)
            if value is False:
                return False
            if value is None:
                result = None
        return result

    def many(columns: Mapping[str, Column]) -> tuple[Bools, Bools]:
        parts = [part(columns) for part in manys]
        return np.logical_and.reduce([t for t, _ in parts]), np.logical_or.reduce([f for _, f in parts])

    return one, many


def _any(ones: list[_One], manys: list[_Many]) -> tuple[_One, _Many]:
    flipped = [_not(one, many) for one, many in zip(ones, manys, strict=True)]
    return _not(*_all([one for one, _ in flipped], [many for _, many in flipped]))
