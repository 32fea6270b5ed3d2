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
from simulator.calibration.verdict import AUC_HIGH, ERRORS_HIGH, KS_HIGH, RELATIVE_HIGH, Check, tally

_LOGGED, _SIMULATED = "#0072B2", "#E69F00"  # Okabe-Ito
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .2rem}p{margin:.2rem 0 .6rem;color:#4a5866;max-width:80ch}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;table-layout:fixed;width:100%;min-width:40rem}
th,td{padding:.2rem .6rem;text-align:right}th:first-child,td:first-child{text-align:left;width:34%;padding-left:0}
th{border-bottom:1px solid #aab4be;font-weight:600}tr.off td{background:#fdeee3}.off td:last-child{color:#a63f00;font-weight:600}
.shown td:last-child{color:#6b7783}@media print{.figure{break-inside:avoid}}
"""
_RATE = f"Passes within {RELATIVE_HIGH:.0%} of the logged rate or within {ERRORS_HIGH:g} standard errors of the difference."
_SHOWN = "Shown for orientation; there is no rule to pass."
_SAYS = {
    "rate": f"Each behaviour over all impressions. {_RATE} The errors count users and items, whose impressions are alike.",
    "conditional rate": f"Each behaviour among the impressions with another one. {_RATE}",
    "long view by duration": f"Long views in each tenth of the impressions by duration. {_RATE}",
    "rate distribution": f"Rates per user and per item; the Kolmogorov-Smirnov distance must not exceed {KS_HIGH:g}.",
    "distribution": f"Means and Kolmogorov-Smirnov distance. {_SHOWN}",
    "exposure Gini": f"How unevenly impressions fall on users and items. {_SHOWN}",
    "correlation": f"Pearson's correlation over impressions. {_SHOWN}",
    "CTR by scenario": f"Clicks in each scenario of at least one impression in a hundred. {_RATE}",
    "classifier": f"Gradient-boosted trees tell real from simulated impressions, on users and items they have not seen; .5 is "
    f"chance, {AUC_HIGH:g} the most allowed.",
}
_RELATIVE = {"rate", "conditional rate", "long view by duration", "CTR by scenario"}


def write_report(path: str | Path, model: LogModel, logged: LoggedDataset, simulated: LoggedDataset, checks: list[Check]) -> Path:
    """Write the page; it holds its own script and figures."""
    n_judged, n_passed = tally(checks)
    verdict = f"all {n_judged} checks pass" if n_passed == n_judged else f"{n_passed} of {n_judged} checks pass"
    figure = _figure(logged, simulated, checks).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    off = ", ".join(escape(_words(check.name)) for check in checks if not check.passed)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>Calibration {escape(model.name)}</title><style>{_STYLE}</style>",
        f"<h1>Calibration {escape(model.name)}: {verdict}</h1>",
        f"<p>{len(logged):,} logged impressions that the fit has not seen, beside {len(simulated):,} simulated ones."
        + (f" Off: {off}." if off else "")
        + "</p>",
        f"<div class='figure'>{figure}</div>",
    ]
    for kind in dict.fromkeys(check.kind for check in checks):
        distance = "relative" if kind in _RELATIVE else "distance"
        parts.append(
            f"<h2>{escape(kind[:1].upper() + kind[1:])}</h2><p>{escape(_SAYS.get(kind, ''))}</p><div class='wide'><table>"
        )
        parts.append(f"<tr><th>of<th>logged<th>simulated<th>{distance}<th>std errors<th>verdict</tr>")
        parts += [_row(check) for check in checks if check.kind == kind]
        parts.append("</table></div>")
    if model.facts:
        parts.append("<h2>Cited, not fitted</h2><ul>")
        parts += [f"<li>{escape(str(name).replace('_', ' '))}: {escape(str(value))}</li>" for name, value in model.facts.items()]
        parts.append("</ul>")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(parts) + "\n")
    return target


def _words(name: str) -> str:
    """`like | click` in words."""
    return name.replace(" | ", " given ").replace("_", " ")


def _row(check: Check) -> str:
    numbers = "".join(f"<td>{_number(value)}" for value in (check.logged, check.simulated))
    if check.kind in _RELATIVE:
        gap = check.simulated / check.logged - 1 if check.logged else float("nan")
        distance = f"{gap:+.1%}" if np.isfinite(gap) else "–"
    else:
        distance = f"{check.distance:.3f}"
    errors = f"{check.errors:.1f}" if np.isfinite(check.errors) else ""
    return (
        f"<tr class='{check.verdict}'><td>{escape(_words(check.name))}{numbers}<td>{distance}<td>{errors}<td>{check.verdict}</tr>"
    )


def _number(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.4f}"


def _figure(logged: LoggedDataset, simulated: LoggedDataset, checks: list[Check]) -> go.Figure:
    titles = ("Rates (log scale)", "Long view by duration, tenths", "CTR by scenario")
    curves = ("CTR per item, share of items", "CTR per user, share of users", "Watch time in seconds, share")
    figure = make_subplots(rows=2, cols=3, subplot_titles=(*titles, *curves), vertical_spacing=0.22, horizontal_spacing=0.07)
    sides = (("logged", _LOGGED, logged), ("simulated", _SIMULATED, simulated))
    for column, kind in enumerate(("rate", "long view by duration", "CTR by scenario"), 1):
        chosen = [check for check in checks if check.kind == kind]
        labels = [_words(check.name).removeprefix("decile ") for check in chosen]
        for name, color, _ in sides:
            values = [check.logged if name == "logged" else check.simulated for check in chosen]
            bar = go.Bar(x=labels, y=values, name=name, marker_color=color, showlegend=column == 1, legendgroup=name)
            figure.add_trace(bar, row=1, col=column)
    for column, unit in enumerate(("item_id", "user_id", ""), 1):
        for name, color, log in sides:
            seen = log["watch_s"].astype(float) if not unit else _rates(log, unit)
            share = np.linspace(0, 1, 201)
            line = go.Scatter(
                x=np.quantile(seen, share), y=share, name=name, line_color=color, showlegend=False, legendgroup=name
            )
            figure.add_trace(line, row=2, col=column)
    figure.update_yaxes(type="log", exponentformat="power", dtick=1, row=1, col=1)
    figure.update_xaxes(type="category", row=1)
    figure.update_xaxes(tickangle=-45, row=1, col=1)
    figure.update_xaxes(range=[0, 180], row=2, col=3)
    figure.update_layout(
        height=640,
        template="plotly_white",
        margin={"l": 40, "r": 20, "t": 70, "b": 30},
        legend={"orientation": "h", "y": 1.14, "x": 0},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    return figure


def _rates(log: LoggedDataset, unit: str) -> Floats:
    _, index = np.unique(log[unit], return_inverse=True)
    rates: Floats = np.bincount(index, weights=log["click"].astype(float)) / np.bincount(index)
    return rates
