"""The page of a comparison of rankers: a table, and by task a dot with its spread over seeds for every ranker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ranker.report.draw import COLOURS, Figure, Section, document, figure, number, rows_table

SHOWN = ("auc", "gauc", "logloss", "ece", "rmse", "r2", "accuracy", "gain")


def comparison_page(title: str, intro: str, parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page.

    Args:
        parts: By heading, rows `{model, balance, task, METRIC: {mean, std}}`, as `scorefusion train --models` sums them up.
    """
    sections: list[Section] = []
    for heading, rows in parts.items():
        names = [name for name in SHOWN if any(_known(row.get(name)) for row in rows)]
        several = len({row["balance"] for row in rows}) > 1
        table = [[label(row, several), row["task"], *(cell(row.get(name)) for name in names)] for row in rows]
        tasks = dict.fromkeys(row["task"] for row in rows)
        figures = [f for task in tasks for f in _figures([row for row in rows if row["task"] == task], task, several)]
        what = "Mean and standard deviation over seeds; gain is against single_task of the same seed."
        sections.append((heading, what, rows_table(["ranker", "task", *names], table), figures))
    return document(title, intro, sections)


def label(row: Mapping[str, Any], several: bool) -> str:
    """The ranker's name, with its balance where there are several."""
    return f"{row['model']}, {row['balance']}" if several else str(row["model"])


def cell(value: Mapping[str, float] | None) -> str:
    """`mean ± std`, the mean alone for one seed, nothing where it could not be computed."""
    if not _known(value):
        return ""
    assert value is not None
    return number(value["mean"]) if not _finite(value["std"]) else f"{number(value['mean'])} ± {value['std']:.4f}"


def _figures(rows: Sequence[Mapping[str, Any]], task: str, several: bool) -> list[Figure]:
    found = []
    for at, metric in enumerate(("auc", "rmse", "gain")):
        seen = [row for row in rows if _known(row.get(metric))]
        if len(seen) < 2:
            continue
        dots = {
            "type": "scatter",
            "mode": "markers",
            "x": [row[metric]["mean"] for row in seen],
            "y": [label(row, several) for row in seen],
            "error_x": {"type": "data", "array": [row[metric]["std"] if _finite(row[metric]["std"]) else 0 for row in seen]},
            "marker": {"color": COLOURS[at], "size": 8},
            "showlegend": False,
        }
        made = figure(f"{task}: {metric}", [dots], metric, "")
        made["layout"]["height"] = 110 + 22 * len(seen)
        made["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
        found.append(made)
    return found


def _known(value: Any) -> bool:
    return isinstance(value, Mapping) and _finite(value.get("mean"))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
