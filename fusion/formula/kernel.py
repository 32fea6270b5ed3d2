"""Block evaluation of a laid-out formula: loops over a few hundred rows that stay in the first cache and become vector code."""

from __future__ import annotations

import math

import numpy as np

from core.arrays import Floats, Ints
from fusion.formula.linear import COLUMN, OPS, REGISTER
from fusion.formula.order import argsort
from fusion.jit import compiled, fast

ADD, SUB, MUL, DIV, POW = OPS["+"], OPS["-"], OPS["*"], OPS["/"], OPS["**"]
LT, LE, GT, GE, EQ, NE = OPS["<"], OPS["<="], OPS[">"], OPS[">="], OPS["=="], OPS["!="]
MIN, MAX, COPY, NEGATE, LOG, LOG1P = OPS["min"], OPS["max"], OPS["copy"], OPS["negate"], OPS["log"], OPS["log1p"]
EXP, SQRT, ABS, SIGMOID, RANK, ZSCORE, MINMAX = (
    OPS["exp"],
    OPS["sqrt"],
    OPS["abs"],
    OPS["sigmoid"],
    OPS["rank"],
    OPS["zscore"],
    OPS["minmax"],
)
WHERE = OPS["where"]
_ROOT_HALF, _LEAST, _MOST = (int(np.float64(x).view(np.int64)) for x in (math.sqrt(0.5), 1e-300, 1e300))
_LN2 = math.log(2.0)
_SERIES = tuple(2.0 / (2 * k + 1) for k in range(1, 11))


@compiled
def evaluate_block(
    ops: Ints, columns: Floats, scalars: Floats, start: int, n: int, requests: Ints, registers: Floats, out: Floats
) -> None:
    """Final scores of rows `start .. start + n` for one parameter vector, into `out[:n]`.

    Args:
        ops: `[n_ops, 8]`. columns: `[n_columns, n_rows]`. scalars: `[n_scalars]` of this vector.
        requests: Starts of the block's requests (rows of the log) plus the end.
        registers: Scratch `[n_registers + 3, >= n]`; the last three take broadcast scalars.
    """
    spare = len(registers) - 3
    for k in range(len(ops)):
        op = ops[k, 0]
        target = registers[ops[k, 1], :n] if k < len(ops) - 1 else out[:n]
        a = _operand(ops[k, 2], ops[k, 3], columns, scalars, start, n, registers, spare)
        if op <= MAX:
            if ops[k, 4] == 0:
                _with_scalar(op, a, scalars[ops[k, 5]], target)
            else:
                b = _operand(ops[k, 4], ops[k, 5], columns, scalars, start, n, registers, spare + 1)
                _with_column(op, a, b, target)
        elif op == WHERE:
            b = _operand(ops[k, 4], ops[k, 5], columns, scalars, start, n, registers, spare + 1)
            c = _operand(ops[k, 6], ops[k, 7], columns, scalars, start, n, registers, spare + 2)
            for i in range(n):
                target[i] = b[i] if a[i] != 0 else c[i]
        elif op >= RANK:
            _per_request(op, a, target, requests, start)
        else:
            _unary(op, a, target, registers[spare + 1, :n])


@compiled
def _operand(
    kind: int, index: int, columns: Floats, scalars: Floats, start: int, n: int, registers: Floats, spare: int
) -> Floats:
    if kind == COLUMN:
        return columns[index, start : start + n]
    if kind == REGISTER:
        return registers[index, :n]
    filled = registers[spare, :n]
    filled[:] = scalars[index]
    return filled


@compiled
def _with_scalar(op: int, a: Floats, s: float, out: Floats) -> None:
    n = len(out)
    if op == ADD:
        for i in range(n):
            out[i] = a[i] + s
    elif op == SUB:
        for i in range(n):
            out[i] = a[i] - s
    elif op == MUL:
        for i in range(n):
            out[i] = a[i] * s
    elif op == DIV:
        for i in range(n):
            out[i] = a[i] / s
    elif op == POW:
        for i in range(n):
            out[i] = a[i] ** s
    else:
        for i in range(n):
            out[i] = _pair(op, a[i], s)


@compiled
def _with_column(op: int, a: Floats, b: Floats, out: Floats) -> None:
    n = len(out)
    if op == ADD:
        for i in range(n):
            out[i] = a[i] + b[i]
    elif op == SUB:
        for i in range(n):
            out[i] = a[i] - b[i]
    elif op == MUL:
        for i in range(n):
            out[i] = a[i] * b[i]
    elif op == DIV:
        for i in range(n):
            out[i] = a[i] / b[i]
    elif op == POW:
        for i in range(n):
            out[i] = a[i] ** b[i]
    else:
        for i in range(n):
            out[i] = _pair(op, a[i], b[i])


@compiled
def _pair(op: int, x: float, y: float) -> float:
    if op in (MIN, MAX):
        if x != x or y != y:
            return math.nan
        if op == MIN:
            return x if x < y else y
        return x if x > y else y
    if op == LT:
        holds = x < y
    elif op == LE:
        holds = x <= y
    elif op == GT:
        holds = x > y
    elif op == GE:
        holds = x >= y
    elif op == EQ:
        holds = x == y
    else:
        holds = x != y
    return 1.0 if holds else 0.0


@compiled
def _unary(op: int, a: Floats, out: Floats, scratch: Floats) -> None:
    n = len(out)
    if op == LOG:
        block_log(a, out, scratch)
    elif op == COPY:
        for i in range(n):
            out[i] = a[i]
    elif op == NEGATE:
        for i in range(n):
            out[i] = -a[i]
    elif op == SQRT:
        for i in range(n):
            out[i] = np.sqrt(a[i])
    elif op == ABS:
        for i in range(n):
            out[i] = abs(a[i])
    elif op == EXP:
        for i in range(n):
            out[i] = np.exp(a[i])
    elif op == LOG1P:
        for i in range(n):
            out[i] = np.log1p(a[i])
    else:
        for i in range(n):
            out[i] = 0.5 * (np.tanh(0.5 * a[i]) + 1.0)


@compiled
def block_log(a: Floats, out: Floats, exponent: Floats) -> None:
    """Natural logarithms `[n]`, as vector code where all values are ordinary positive numbers; `out` is not `a`."""
    bits = a.view(np.int64)
    outside = np.int64(0)
    for i in range(len(out)):
        outside |= (bits[i] - _LEAST) | (_MOST - bits[i])
    if outside >= 0:
        _series_log(a, out, exponent)
    else:
        for i in range(len(out)):
            out[i] = np.log(a[i])


@fast
def _series_log(a: Floats, out: Floats, exponent: Floats) -> None:
    """x = 2^e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s) with s = (m - 1) / (m + 1), a series in s^2 < .0295."""
    n = len(out)
    bits, mantissa = a.view(np.int64), out.view(np.int64)
    for i in range(n):
        shift = (bits[i] - _ROOT_HALF) >> 52
        exponent[i] = shift
        mantissa[i] = bits[i] - (shift << 52)
    for i in range(n):
        s = (out[i] - 1.0) / (out[i] + 1.0)
        z = s * s
        tail = _SERIES[6] + z * (_SERIES[7] + z * (_SERIES[8] + z * _SERIES[9]))
        tail = _SERIES[2] + z * (_SERIES[3] + z * (_SERIES[4] + z * (_SERIES[5] + z * tail)))
        out[i] = exponent[i] * _LN2 + s * (2.0 + z * (_SERIES[0] + z * (_SERIES[1] + z * tail)))


@compiled
def _per_request(op: int, a: Floats, out: Floats, requests: Ints, start: int) -> None:
    for r in range(len(requests) - 1):
        low, high = requests[r] - start, requests[r + 1] - start
        if op == RANK:
            _rank(a[low:high], out[low:high])
        else:
            _scale(op, a[low:high], out[low:high])


@compiled
def _rank(x: Floats, out: Floats) -> None:
    n = len(x)
    order, spare = np.empty(n, np.int64), np.empty(n, np.int64)
    for i in range(n):
        out[i] = -x[i] if x[i] == x[i] else math.inf
    argsort(out, order, spare)
    first = 0
    while first < n:
        last = first + 1
        while last < n and x[order[last]] == x[order[first]]:
            last += 1
        for i in range(first, last):
            out[order[i]] = (first + last + 1) / 2 if x[order[i]] == x[order[i]] else math.nan
        first = last


@compiled
def _scale(op: int, x: Floats, out: Floats) -> None:
    """zscore or minmax; NaN stays NaN and is not counted."""
    low, high, total, n = math.inf, -math.inf, 0.0, 0
    for value in x:
        if value == value:
            low, high, total, n = min(low, value), max(high, value), total + value, n + 1
    if low == high or n == 0:
        for i in range(len(x)):
            out[i] = x[i] if x[i] != x[i] else 0.0
        return
    if op == MINMAX:
        for i in range(len(x)):
            out[i] = (x[i] - low) / (high - low)
        return
    mean, scale, squares = total / n, 0.0, 0.0
    for value in x:
        if value == value:
            scale = max(scale, abs(value - mean))
    for value in x:
        if value == value:
            squares += ((value - mean) / scale) ** 2
    deviation = math.sqrt(squares / n)
    for i in range(len(x)):
        out[i] = (x[i] - mean) / scale / deviation
