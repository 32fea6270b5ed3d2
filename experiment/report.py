"""A readout as lines of text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiment.readout import Readout, Report
from experiment.views import View


def table(report: Report) -> str:
    """The readout as lines of text.

    The interval is that of the absolute difference; `rel` is the difference as a share of the control's value.
    """
    head = [
        "metric",
        "bucket",
        "control",
        "treatment",
        "diff",
        f"{1 - report.alpha:.0%} interval",
        "rel",
        "p",
        "p adj.",
        "status",
    ]
    lines = _aligned([head, *(_cells(row) for row in report.rows)])
    counts = ", ".join(f"{name} {n:,}" for name, n in report.counts.items())
    lines += ["", f"units: {counts}; sample ratio p = {_number(report.srm_p)}"]
    lines += [f"warning: {text}" for text in report.warnings]
    lines += [f"guardrail {g.metric} ({g.treatment}): {g.status}, margin {g.margin:.1%}" for g in report.guardrails]
    lines += [f"{verdict.treatment}: {verdict.decision}, {verdict.reason}" for verdict in report.verdicts.values()]
    return "\n".join(lines)


def view_table(view: View) -> str:
    """A view by segment or day as lines of text."""
    head = ["part", "metric", "bucket", "units", "control", "diff", "interval", "p", "p adj.", "status"]
    rows = [
        [
            row.part,
            row.metric,
            row.bucket,
            f"{row.n_control:,} + {row.n_treatment:,}",
            _number(row.effect.control),
            _number(row.effect.diff, signed=True),
            f"[{_number(row.effect.diff_low, signed=True)}, {_number(row.effect.diff_high, signed=True)}]",
            _number(row.effect.p_value),
            _number(row.p_adjusted),
            row.effect.status,
        ]
        for row in view.rows
    ]
    return "\n".join([*_aligned([head, *rows]), *(f"warning: {text}" for text in view.warnings)])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(row: Readout) -> list[str]:
    return [
        row.metric,
        row.bucket,
        _number(row.control),
        _number(row.treatment),
        _number(row.diff, signed=True),
        f"[{_number(row.diff_low, signed=True)}, {_number(row.diff_high, signed=True)}]",
        "" if np.isnan(row.rel_diff) else f"{row.rel_diff:+.2%}",
        _number(row.p_value),
        _number(row.p_adjusted),
        row.status,
    ]


def _number(value: float, *, signed: bool = False) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:+.4g}" if signed else f"{value:.4g}"
