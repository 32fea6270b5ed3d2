"""Pages that stand alone: sections of text and Plotly figures; Plotly comes from its wheel, so nothing is fetched."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

COLOURS = ("#2c5f8a", "#c2571a", "#3f7d4e", "#8a4f9e", "#b03a48", "#6b6b3a", "#3a8f8f", "#7a5c45")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0 .6rem;color:#4a5866;max-width:75ch}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:1px solid #aab4be;font-weight:600}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:.5rem}
@media print{h2{break-after:avoid}.plot{break-inside:avoid}}
"""
Figure = dict[str, Any]
Section = tuple[str, str, str, list[Figure]]  # heading, what it shows, HTML, figures


def document(title: str, intro: str, sections: Sequence[Section]) -> str:
    """A whole page; a section with neither text nor figures is left out.

    Args:
        intro: Under the title, as text.
    """
    body: list[str] = []
    figures: list[Figure] = []
    for name, what, text, drawn in sections:
        if not text and not drawn:
            continue
        places = []
        for one in drawn:
            places.append(f'<div class="plot" id="f{len(figures)}"></div>')
            figures.append(one)
        body.append(f'<h2>{name}</h2><p>{what}</p>{text}<div class="row">{"".join(places)}</div>')
    head = f"<h1>{html.escape(title)}</h1><p>{html.escape(intro)}</p>"
    data = json.dumps(figures).replace("</", "<\\/")
    draw = "F.forEach((f,i)=>Plotly.newPlot('f'+i,f.data,f.layout,{displayModeBar:false,responsive:true}))"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>'
        f"<body>{head}{''.join(body)}<script>const F={data};{draw}</script></body></html>"
    )


def rows_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def number(value: float | None) -> str:
    """Four decimals, or a whole number; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4f}"


def heat(
    title: str,
    values: list[list[float | None]],
    rows: list[str],
    columns: list[str],
    spread: list[list[float]] | None = None,
    *,
    low: float = 0.0,
    top: float | None = None,
    text: bool = True,
) -> Figure:
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": values,
        "x": columns,
        "y": rows,
        "colorscale": [[0, "#f3f6f9"], [1, "#2c5f8a"]],
        "zmin": low,
        "colorbar": {"thickness": 10, "len": 0.9},
        "hoverongaps": False,
    }
    if top is not None:
        trace["zmax"] = top
    if text and len(columns) <= 12:
        trace["texttemplate"] = "%{z:.2f}"
    if spread is not None:
        trace["customdata"] = spread
        trace["hovertemplate"] = "%{y}, %{x}: %{z:.3f} ± %{customdata:.3f}<extra></extra>"
    made = figure(title, [trace], "", "")
    made["layout"]["height"] = 130 + 34 * max(len(rows), 3)
    made["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
    made["layout"]["xaxis"] |= {"type": "category"}
    return made


def line(x: list[float], y: list[float], name: str, colour: str, *, dash: str = "solid", legend: bool = False) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if dash != "dash" else "lines",
        "x": x,
        "y": y,
        "name": name,
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"size": 5},
        "showlegend": legend,
    }


def marked(epoch: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": epoch,
        "x1": epoch,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#8a949e", "width": 1, "dash": "dash"},
    }


def figure(title: str, data: list[dict[str, Any]], x: str, y: str) -> Figure:
    layout = {
        "title": {"text": title, "font": {"size": 14}, "x": 0.02},
        "height": 280,
        "margin": {"l": 60, "r": 10, "t": 40, "b": 45},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1c2733"},
        "plot_bgcolor": "#ffffff",
        "xaxis": {"title": {"text": x}, "gridcolor": "#e6ebf0", "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": y}, "gridcolor": "#e6ebf0", "zeroline": False, "automargin": True},
        "legend": {"orientation": "h", "y": -0.3},
    }
    return {"data": data, "layout": layout}
