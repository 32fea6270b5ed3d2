"""A tree laid out for the batched kernel: what needs no parameter becomes a column, the rest a short list of block operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.arrays import Floats, Ints
from core.errors import ConfigError
from fusion.formula.formula import Formula
from fusion.formula.program import Frame, compile_tree
from fusion.formula.tree import Binary, Call, Name, Negate, Node, walk

SCALAR, COLUMN, REGISTER = 0, 1, 2  # where an operand lives: per vector, per row, or a block result
BINARY_OPS: Final = ("+", "-", "*", "/", "**", "<", "<=", ">", ">=", "==", "!=", "min", "max")
UNARY_OPS: Final = ("copy", "negate", "log", "log1p", "exp", "sqrt", "abs", "sigmoid", "rank", "zscore", "minmax")
OPS: Final[Mapping[str, int]] = {name: code for code, name in enumerate((*BINARY_OPS, *UNARY_OPS, "where"))}
WIDTH: Final = 8  # of an instruction: operation, destination, three times (kind, index)
MAX_REGISTERS: Final = 64


@dataclass(frozen=True)
class Linear:
    """Instructions `[n_ops, 8]`, the columns `[n_columns, n_rows]` they read, and the trees of the scalars they read."""

    ops: Ints
    columns: Floats
    scalars: tuple[Node, ...]
    n_registers: int
    params: tuple[str, ...]

    def scalar_values(self, vectors: Floats) -> Floats:
        """The scalars of every parameter vector: `[V, n_params]` to `[V, n_scalars]`."""
        out = np.empty((len(vectors), max(1, len(self.scalars))))
        frame = Frame({}, dict(zip(self.params, vectors.T, strict=True)), {}, len(vectors))
        with np.errstate(all="ignore"):
            for column, tree in enumerate(self.scalars):
                out[:, column] = compile_tree(tree)(frame)
        return out


def linearise(formula: Formula, tasks: Mapping[str, Floats], context: Mapping[str, Any], n: int, segments: Ints | None) -> Linear:
    """Lay a formula out over a log of `n` rows, whose requests start at `segments` (plus the end)."""
    frame = Frame(tasks, {}, context, n, segments)
    layout = _Layout(frame)
    with np.errstate(all="ignore"):
        kind, index = layout.operand(formula.tree, 0)
    if kind != REGISTER:
        layout.emit("copy", 0, [(kind, index)])
    columns = np.stack(layout.columns) if layout.columns else np.zeros((1, n))
    ops = np.asarray(layout.ops, dtype=np.int64)
    return Linear(ops, columns, tuple(layout.scalars), layout.n_registers, formula.params)


class _Layout:
    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.ops: list[list[int]] = []
        self.columns: list[Floats] = []
        self.scalars: list[Node] = []
        self.n_registers = 1

    def operand(self, node: Node, depth: int) -> tuple[int, int]:
        """Where the node's value will be: (kind, index). Registers 2 * depth and above are free for it."""
        kinds = {n.kind for n in walk(node) if isinstance(n, Name)}
        request_level = any(isinstance(n, Call) and n.function in ("rank", "zscore", "minmax") for n in walk(node))
        if kinds <= {"param"} and not request_level:
            self.scalars.append(node)
            return SCALAR, len(self.scalars) - 1
        if "param" not in kinds:
            value = compile_tree(node)(self.frame)
            self.columns.append(np.array(np.broadcast_to(value, (self.frame.n,)), dtype=np.float64))
            return COLUMN, len(self.columns) - 1
        return self._mixed(node, depth)

    def emit(self, op: str, depth: int, operands: list[tuple[int, int]]) -> tuple[int, int]:
        """Append one instruction; where its result is, never in an operand: in-place loops would not become vector code."""
        register = 2 * depth if (REGISTER, 2 * depth) not in operands else 2 * depth + 1
        if register >= MAX_REGISTERS:
            raise ConfigError(f"the formula nests more than {MAX_REGISTERS // 2} operations to the right; shorten it")
        self.n_registers = max(self.n_registers, register + 1)
        padded = [*operands, *[(SCALAR, 0)] * (3 - len(operands))]
        self.ops.append([OPS[op], register, *(part for operand in padded for part in operand)])
        return REGISTER, register

    def _mixed(self, node: Node, depth: int) -> tuple[int, int]:
        if isinstance(node, Negate):
            return self.emit("negate", depth, [self.operand(node.operand, depth)])
        if isinstance(node, Binary):
            return self._fold(node.op, [node.left, node.right], depth)
        assert isinstance(node, Call), "names and numbers are operands"
        if node.function in ("min", "max"):
            return self._fold(node.function, list(node.args), depth)
        if node.function == "clip":
            raised = self._fold("max", list(node.args[:2]), depth)
            return self.emit("min", depth, [raised, self.operand(node.args[2], depth + 1)])
        return self.emit(node.function, depth, [self.operand(arg, depth + i) for i, arg in enumerate(node.args)])

    def _fold(self, op: str, args: list[Node], depth: int) -> tuple[int, int]:
        left = self.operand(args[0], depth)
        for arg in args[1:]:
            left = self.emit(op, depth, [left, self.operand(arg, depth + 1)])
        return left
