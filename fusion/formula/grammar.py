"""The formula language: text to a checked tree, with positions in every error. Nothing of the text is ever executed.

compare := sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]          1 where it holds, else 0
sum     := product (("+" | "-") product)*
product := unary (("*" | "/") unary)*
unary   := ("-" | "+") unary | power
power   := atom ["**" unary]                                          binds to the right, above unary minus
atom    := number | name | function "(" compare ("," compare)* ")" | "(" compare ")"
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from core.errors import ConfigError
from fusion.formula.program import Frame, compile_tree
from fusion.formula.tree import Binary, Call, Name, NameKind, Negate, Node, Number, children, height, names

MAX_LENGTH: Final = 2_000
MAX_DEPTH: Final = 40  # parentheses, signs and powers inside one another
MAX_HEIGHT: Final = 150  # of the tree: also a long chain of + or * makes it higher
MAX_POWER: Final = 100.0  # of an exponent that is written as a number
COMPARISONS: Final = ("<=", ">=", "==", "!=", "<", ">")
# name: least and most arguments (None: any number)
FUNCTIONS: Final[Mapping[str, tuple[int, int | None]]] = {
    "log": (1, 1),
    "log1p": (1, 1),
    "exp": (1, 1),
    "sqrt": (1, 1),
    "abs": (1, 1),
    "sigmoid": (1, 1),
    "min": (2, None),
    "max": (2, None),
    "clip": (3, 3),
    "where": (3, 3),
    "rank": (1, 1),
    "zscore": (1, 1),
    "minmax": (1, 1),
}
REQUEST_FUNCTIONS: Final = frozenset({"rank", "zscore", "minmax"})  # they look at all candidates of the request

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<op>\*\*|<=|>=|==|!=|[-+*/(),<>])"
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str, *, tasks: Sequence[str], params: Sequence[str] = (), context: Sequence[str] = ()) -> Node:
    """Read a formula.

    Args:
        text: The formula; at most 2,000 characters and 40 levels deep.
        tasks, params, context: The names it may use. They must differ from each other and from the functions.

    Raises:
        ConfigError: The text is not a formula over these names, or a declared parameter is not used.

    >>> parse("a * log(click + 1e-3)", tasks=["click"], params=["a"]).op
    '*'
    """
    known = _declared(tasks, params, context)
    if not isinstance(text, str):
        raise ConfigError(f"formula {text!r} is not text; write it as a string")
    if len(text) > MAX_LENGTH:
        raise ConfigError(
            f"formula {_short(text)!r}, position {MAX_LENGTH + 1}: {len(text)} characters; at most {MAX_LENGTH} are allowed"
        )
    parser = _Parser(text, known)
    tree = parser.parse()
    if height(tree) > MAX_HEIGHT:
        raise ConfigError(f"formula {_short(text)!r}: {height(tree)} operations in a row; at most {MAX_HEIGHT} are allowed")
    with np.errstate(all="ignore"):
        parser.constant(tree)
    unused = [name for name in params if name not in names(tree, "param")]
    if unused:
        raise ConfigError(f"formula {_short(text)!r}: parameter {unused[0]!r} is declared but not used; use it or drop it")
    if not names(tree, "task"):
        raise ConfigError(f"formula {_short(text)!r} uses no task; name at least one of {_list(tasks)}")
    return tree


def _declared(tasks: Sequence[str], params: Sequence[str], context: Sequence[str]) -> dict[str, NameKind]:
    known: dict[str, NameKind] = {}
    groups: tuple[tuple[NameKind, Sequence[str]], ...] = (("task", tasks), ("param", params), ("context", context))
    for kind, group in groups:
        for name in group:
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"{kind} name {name!r} is not an identifier; use letters, digits and _")
            if name in FUNCTIONS:
                raise ConfigError(f"{kind} name {name!r} is a function of the formula language; rename it")
            if name in known:
                raise ConfigError(f"name {name!r} is declared as {known[name]} and as {kind}; names must differ")
            known[name] = kind
    return known


class _Parser:
    """Recursive descent over the tokens; depth is counted on the way down, so no text can exhaust the stack."""

    def __init__(self, text: str, known: Mapping[str, NameKind]) -> None:
        self.text = text
        self.known = known
        self.tokens = self._tokenise()
        self.next = 0

    def parse(self) -> Node:
        node = self._compare(1)
        token = self._peek()
        if token.kind != "end":
            raise self._error(token.at, f"unexpected {token.text!r} after the end of the formula")
        return node

    def constant(self, node: Node) -> float | None:
        """The value of a part without names; None when it has some. Refuses what is not finite, and powers beyond sense."""
        if isinstance(node, Number | Name):
            return node.value if isinstance(node, Number) else None
        values = [self.constant(child) for child in children(node)]
        if isinstance(node, Binary) and node.op == "**" and values[1] is not None and abs(values[1]) > MAX_POWER:
            raise self._error(node.at, f"power {values[1]:g}; a number in the exponent is at most {MAX_POWER:g}")
        known = [Number(value) for value in values if value is not None]
        if len(known) < len(values) or (isinstance(node, Call) and node.function in REQUEST_FUNCTIONS):
            return None
        if isinstance(node, Negate):
            return -known[0].value
        same = Binary(node.op, known[0], known[1]) if isinstance(node, Binary) else Call(node.function, tuple(known))
        value = float(compile_tree(same)(Frame({}, {}, {}, 1)))
        if not math.isfinite(value):
            what = node.op if isinstance(node, Binary) else node.function
            raise self._error(node.at, f"{what!r} of constants is {value:g}; write a finite number")
        return value

    def _compare(self, depth: int) -> Node:
        left = self._sum(depth)
        token = self._peek()
        if token.text not in COMPARISONS:
            return left
        self.next += 1
        right = self._sum(depth)
        if self._peek().text in COMPARISONS:
            raise self._error(self._peek().at, "comparisons do not chain; use where() inside where()")
        return Binary(token.text, left, right, token.at)

    def _sum(self, depth: int) -> Node:
        return self._chain(("+", "-"), depth)

    def _chain(self, ops: tuple[str, str], depth: int) -> Node:
        below = self._product if ops[0] == "+" else self._unary
        node = below(depth + 1)
        while (token := self._peek()).text in ops:
            self.next += 1
            node = Binary(token.text, node, below(depth + 1), token.at)
        return node

    def _product(self, depth: int) -> Node:
        return self._chain(("*", "/"), depth)

    def _unary(self, depth: int) -> Node:
        token = self._peek()
        if depth > 4 * MAX_DEPTH:
            raise self._error(token.at, f"nested deeper than {MAX_DEPTH} levels")
        if token.text in ("-", "+") and token.kind == "op":
            self.next += 1
            operand = self._unary(depth + 4)
            return Negate(operand, token.at) if token.text == "-" else operand
        return self._power(depth)

    def _power(self, depth: int) -> Node:
        base = self._atom(depth)
        token = self._peek()
        if token.text != "**":
            return base
        self.next += 1
        return Binary("**", base, self._unary(depth + 4), token.at)

    def _atom(self, depth: int) -> Node:
        token = self._peek()
        self.next += 1
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise self._error(token.at, f"number {token.text} is too large")
            return Number(value, token.at)
        if token.kind == "name":
            if self._peek().text == "(":
                return self._call(token, depth)
            if token.text in self.known:
                return Name(token.text, self.known[token.text], token.at)
            if token.text in FUNCTIONS:
                raise self._error(token.at, f"function {token.text!r} needs its arguments in parentheses")
            raise self._unknown(token, "name", list(self.known))
        if token.text == "(":
            node = self._compare(depth + 2)
            self._expect(")", token)
            return node
        raise self._error(token.at, "the formula ends too early" if token.kind == "end" else f"unexpected {token.text!r}")

    def _call(self, name: _Token, depth: int) -> Node:
        if name.text not in FUNCTIONS:
            raise self._unknown(name, "function", list(FUNCTIONS))
        opening = self._peek()
        self.next += 1
        args = [self._compare(depth + 2)]
        while self._peek().text == ",":
            self.next += 1
            args.append(self._compare(depth + 2))
        self._expect(")", opening)
        low, high = FUNCTIONS[name.text]
        if len(args) < low or (high is not None and len(args) > high):
            wanted = f"{low}" if low == high else f"at least {low}"
            raise self._error(name.at, f"{name.text}() takes {wanted} argument{'s' if wanted != '1' else ''}, got {len(args)}")
        return Call(name.text, tuple(args), name.at)

    def _expect(self, text: str, opening: _Token) -> None:
        token = self._peek()
        if token.text != text:
            found = "the end" if token.kind == "end" else repr(token.text)
            raise self._error(token.at, f"expected {text!r} for the {opening.text!r} at position {opening.at + 1}, found {found}")
        self.next += 1

    def _peek(self) -> _Token:
        return self.tokens[self.next] if self.next < len(self.tokens) else _Token("end", "", len(self.text))

    def _tokenise(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                hint = "; a power is written **" if self.text[at] == "^" else ""
                raise self._error(at, f"character {self.text[at]!r} is not part of the language{hint}")
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match.group(), at))
            at = match.end()
        return tokens

    def _unknown(self, token: _Token, what: str, known: list[str]) -> ConfigError:
        close = difflib.get_close_matches(token.text, known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return self._error(token.at, f"unknown {what} {token.text!r}{hint}; known {what}s are {_list(known)}")

    def _error(self, at: int, message: str) -> ConfigError:
        return ConfigError(f"formula {_short(self.text)!r}, position {at + 1}: {message}")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _list(known: Sequence[str]) -> str:
    return ", ".join(known) or "none"
