"""Interval plots: a readout's differences as bars against a zero line with a verdict in words, as plain figures for Plotly."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"
_COLOURS = {BETTER: "better", WORSE: "worse", UNCLEAR: "unclear"}  # names of the stylesheet's colours


def verdict(row: Mapping[str, Any]) -> str:
    """What one row says, in words.

    >>> verdict({"status": "ok", "diff_low": 0.1, "diff_high": 0.3, "goal": "up"})
    'better'
    >>> verdict({"status": "ok", "diff_low": 0.1, "diff_high": 0.3, "goal": "down"})
    'worse'
    >>> verdict({"status": "too_few_units", "diff_low": None, "diff_high": None, "goal": "up"})
    'too few units'
    """
    low, high = row["diff_low"], row["diff_high"]
    if row.get("status", "ok") != "ok" or not _known(low) or not _known(high):
        return str(row.get("status", "unknown")).replace("_", " ")
    if low > 0 or high < 0:
        return BETTER if (low > 0) == (row.get("goal", "up") == "up") else WORSE
    return UNCLEAR


def interval_figures(readout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Up to two figures: relative differences in percent where every bound is known, absolute ones for the rest."""
    rows = list(readout.get("rows", ()))
    relative = [r for r in rows if all(_known(r.get(f"rel_diff{part}")) for part in ("", "_low", "_high"))]
    absolute = [r for r in rows if r not in relative and all(_known(r.get(f"diff{part}")) for part in ("", "_low", "_high"))]
    figures = []
    if relative:
        figures.append(_figure(relative, "rel_diff", 100.0, "difference from control, %"))
    if absolute:
        figures.append(_figure(absolute, "diff", 1.0, "difference from control"))
    return figures


def _figure(rows: Sequence[Mapping[str, Any]], field: str, scale: float, title: str) -> dict[str, Any]:
    several = len({row["bucket"] for row in rows}) > 1
    names = [_label(row, several) for row in rows]
    traces = []
    for word, colour in _COLOURS.items():
        chosen = [(name, row) for name, row in zip(names, rows, strict=True) if verdict(row) == word]
        if not chosen:
            continue
        at = [scale * row[field] for _, row in chosen]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": word,
                "x": at,
                "y": [name for name, _ in chosen],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [scale * row[f"{field}_high"] - x for (_, row), x in zip(chosen, at, strict=True)],
                    "arrayminus": [x - scale * row[f"{field}_low"] for (_, row), x in zip(chosen, at, strict=True)],
                    "thickness": 6,
                    "width": 0,
                },
                "marker": {"size": 11, "symbol": "line-ns-open", "line": {"width": 3}},
                "meta": colour,
                "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
            }
        )
    return {"data": traces, "title": title, "order": names[::-1], "height": 90 + 44 * len(names)}


def _label(row: Mapping[str, Any], with_bucket: bool) -> str:
    """What stands beside a bar. Plotly reads tags in labels, so `<` is escaped."""
    name = f"{row['metric']} · {row['bucket']}" if with_bucket else str(row["metric"])
    return f"{html.escape(name, quote=False)}<br><i>{verdict(row)}</i>"


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
