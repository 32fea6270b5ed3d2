"""The checked tree a formula becomes: five kinds of node, each knowing where in the text it stood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

NameKind = Literal["task", "param", "context"]


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float
    at: int = 0


@dataclass(frozen=True, slots=True)
class Name:
    """A task, a parameter or a context name."""

    name: str
    kind: NameKind
    at: int = 0


@dataclass(frozen=True, slots=True)
class Negate:
    """Unary minus."""

    operand: Node
    at: int = 0


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`; op is one of + - * / ** < <= > >= == !=."""

    op: str
    left: Node
    right: Node
    at: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the language applied to its arguments."""

    function: str
    args: tuple[Node, ...]
    at: int = 0


Node: TypeAlias = Number | Name | Negate | Binary | Call


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below, left to right."""
    if isinstance(node, Negate):
        return (node.operand,)
    if isinstance(node, Binary):
        return (node.left, node.right)
    return node.args if isinstance(node, Call) else ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, in the order of the text."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def height(node: Node) -> int:
    """The number of levels: 1 for a number or a name."""
    level, levels = [node], 0
    while level:
        levels += 1
        level = [child for above in level for child in children(above)]
    return levels


def names(node: Node, kind: NameKind) -> tuple[str, ...]:
    """The distinct names of one kind below the node, in the order of the text."""
    return tuple(dict.fromkeys(n.name for n in walk(node) if isinstance(n, Name) and n.kind == kind))
