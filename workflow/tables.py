"""Plain tables for the terminal: names left, numbers right, nothing where a number cannot be computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns.

    >>> print(table(["task", "auc"], [["click", 0.75], ["like", float("nan")]]))
    task      auc
    click  0.7500
    like        -
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[at]) for line in [list(header), *cells]) for at in range(len(header))]
    left = [all(isinstance(row[at], str) for row in rows) for at in range(len(header))]
    lines = []
    for line in [list(header), *cells]:
        parts = zip(line, widths, left, strict=True)
        lines.append("  ".join(text.ljust(width) if is_left else text.rjust(width) for text, width, is_left in parts).rstrip())
    return "\n".join(lines)


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A ranker's metrics, one line a task."""
    wanted = ["n", "positives", "auc", "gauc", "logloss", "ece", "calibration", "rmse", "mae", "r2", "accuracy"]
    names = [name for name in wanted if any(name in row for row in metrics.values())]
    rows = [[task, *(_count(row.get(name, math.nan), name) for name in names)] for task, row in metrics.items()]
    return table(["task", *names], rows)


def _count(value: float, name: str) -> float | int:
    return int(value) if name in ("n", "positives") and not math.isnan(value) else value


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4f}"
    return str(value)
