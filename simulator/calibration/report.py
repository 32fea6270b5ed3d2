"""The calibration's page: simulated beside logged, every check with its verdict, in one file that works offline."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.arrays import Floats
from core.logs import LoggedDataset
from simulator.calibration.model import LogModel
from simulator.calibration.verdict import Check

_LOGGED, _SIMULATED = "#0072B2", "#E69F00"  # Okabe-Ito
_STYLE = """
:root { color-scheme: light dark; } body { font: 16px system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0
1rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .25rem .6rem; border-bottom: 1px solid #8884; text-align:
right; } td:first-child, th:first-child { text-align: left; } .bad { color: #D55E00; font-weight: 600; }
"""


def write_report(path: str | Path, model: LogModel, logged: LoggedDataset, simulated: LoggedDataset, checks: list[Check]) -> Path:
    """Write the page; it holds its own script and figures."""
    failed = [check for check in checks if not check.passed]
    verdict = "every check passes" if not failed else f"{len(failed)} of {len(checks)} checks fail"
    figure = _figure(logged, simulated, checks)
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Calibration {escape(model.name)}</title><style>{_STYLE}</style>",
        f"<h1>Calibration <em>{escape(model.name)}</em>: {verdict}</h1>",
        f"<p>{len(logged):,} logged impressions that the fit has not seen, beside {len(simulated):,} simulated ones.</p>",
        figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}),
    ]
    for kind in dict.fromkeys(check.kind for check in checks):
        parts.append(
            f"<h2>{escape(kind)}</h2><table><tr><th>what<th>logged<th>simulated<th>distance<th>standard errors<th>verdict</tr>"
        )
        parts += [_row(check) for check in checks if check.kind == kind]
        parts.append("</table>")
    if model.facts:
        parts.append("<h2>Cited, not fitted</h2><ul>")
        parts += [f"<li>{escape(str(name))}: {escape(str(value))}</li>" for name, value in model.facts.items()]
        parts.append("</ul>")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(parts) + "\n")
    return target


def _row(check: Check) -> str:
    numbers = "".join(f"<td>{'' if not np.isfinite(v) else f'{v:.4f}'}" for v in (check.logged, check.simulated, check.distance))
    errors = "" if not np.isfinite(check.errors) else f"{check.errors:.1f}"
    verdict = "<td>ok" if check.passed else "<td class='bad'>off"
    return f"<tr><td>{escape(check.name)}{numbers}<td>{errors}{verdict}</tr>"


def _figure(logged: LoggedDataset, simulated: LoggedDataset, checks: list[Check]) -> go.Figure:
    titles = ("Rates", "Long view by duration decile", "CTR by scenario", "CTR per item", "CTR per user", "Watch time [s]")
    figure = make_subplots(rows=2, cols=3, subplot_titles=titles)
    for column, kind in enumerate(("rate", "long view by duration", "CTR by scenario"), 1):
        chosen = [check for check in checks if check.kind == kind]
        for name, color, values in (
            ("logged", _LOGGED, [c.logged for c in chosen]),
            ("simulated", _SIMULATED, [c.simulated for c in chosen]),
        ):
            bar = go.Bar(
                x=[c.name for c in chosen], y=values, name=name, marker_color=color, showlegend=column == 1, legendgroup=name
            )
            figure.add_trace(bar, row=1, col=column)
    for column, unit in enumerate(("item_id", "user_id", ""), 1):
        for name, color, log in (("logged", _LOGGED, logged), ("simulated", _SIMULATED, simulated)):
            seen = log["watch_s"].astype(float) if not unit else _rates(log, unit)
            share = np.linspace(0, 1, 201)
            line = go.Scatter(
                x=np.quantile(seen, share), y=share, name=name, line_color=color, showlegend=False, legendgroup=name
            )
            figure.add_trace(line, row=2, col=column)
    figure.update_xaxes(range=[0, 180], row=2, col=3)
    figure.update_layout(height=700, margin={"l": 40, "r": 20, "t": 50, "b": 40}, legend={"orientation": "h"})
    return figure


def _rates(log: LoggedDataset, unit: str) -> Floats:
    _, index = np.unique(log[unit], return_inverse=True)
    rates: Floats = np.bincount(index, weights=log["click"].astype(float)) / np.bincount(index)
    return rates
