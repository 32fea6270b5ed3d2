"""A fusion's report as one HTML page that fetches nothing: sections of words, tables and Plotly figures, light and dark."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plotly.offline import get_plotlyjs

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f8790"  # Okabe-Ito
Figure = dict[str, Any]
STYLE = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#55626f;--line:#c3cbd3;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#a3afba;--line:#46515c;--paper:#14191f}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0 .6rem;color:var(--soft);max-width:80ch}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .9rem .25rem 0;text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}
thead th{border-bottom:1px solid var(--line);font-weight:600}td.words{text-align:left}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(330px,100%),1fr));gap:.5rem}a{color:inherit}
@media print{h2{break-after:avoid}.plot{break-inside:avoid}}
"""
_DRAW = """
const dark=matchMedia('(prefers-color-scheme:dark)');
function draw(){const ink=dark.matches?'#e4e9ee':'#1c2733',grid=dark.matches?'#2c353e':'#e6ebf0';
F.forEach((f,i)=>{const l=structuredClone(f.layout);l.font={...l.font,color:ink};l.paper_bgcolor=l.plot_bgcolor='rgba(0,0,0,0)';
for(const a of ['xaxis','yaxis']){l[a]={...l[a],gridcolor:grid,zerolinecolor:ink}}
Plotly.react('f'+i,f.data,l,{displayModeBar:false,responsive:true})})}
draw();dark.addEventListener('change',draw);
"""


@dataclass(frozen=True)
class Section:
    """One part of a page. `body` is HTML made by `table`, or nothing; `figures` stand side by side below it."""

    title: str
    words: str
    body: str = ""
    figures: Sequence[Figure] = ()


def document(title: str, lead: str, sections: Sequence[Section], data_file: str) -> str:
    """The whole page; title, lead and words are plain text and are escaped."""
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"]
    figures: list[Figure] = []
    for section in sections:
        places = "".join(f'<div class="plot" id="f{len(figures) + i}"></div>' for i in range(len(section.figures)))
        figures += section.figures
        parts.append(f"<section><h2>{html.escape(section.title)}</h2><p>{html.escape(section.words)}</p>")
        parts.append(f'<div class="wide">{section.body}</div><div class="row">{places}</div></section>')
    parts.append(f'<p>The numbers behind this page: <a href="{html.escape(data_file)}">{html.escape(data_file)}</a></p>')
    data = json.dumps(figures, allow_nan=False).replace("</", "<\\/")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>'
        f"<body>{''.join(parts)}<script>const F={data};{_DRAW}</script></body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """Numbers right-aligned with four decimals, words left; nothing where a number cannot be computed.

    >>> table(["task", "gain"], [["click", 0.5], ["<b>", None]]).count("<td>")
    2
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def intervals(title: str, names: Sequence[str], values: Sequence[tuple[float, float, float]]) -> Figure:
    """Values with their low and high ends as bars against a zero line; those that do not hold zero are coloured."""
    shown = [(name, *v) for name, v in zip(names, values, strict=True) if all(map(math.isfinite, v))]
    colours = [GREEN if low > 0 else ORANGE if high < 0 else GREY for _, _, low, high in shown]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [value for _, value, _, _ in shown],
        "y": [name for name, *_ in shown],
        "marker": {"size": 9, "color": colours},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value for _, value, _, high in shown],
            "arrayminus": [value - low for _, value, low, _ in shown],
            "color": GREY,
        },
    }
    figure = layout(title, [points], "gain", "")
    figure["layout"]["height"] = 110 + 30 * max(len(shown), 2)
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
    figure["layout"]["xaxis"] |= {"zeroline": True, "zerolinewidth": 2}
    return figure


def line(x: Sequence[float], y: Sequence[float], name: str, colour: str = BLUE, *, dash: str = "solid") -> dict[str, Any]:
    """A trace of a figure; its name is shown in the legend when it has one."""
    style = {"color": colour, "width": 2, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style, "showlegend": bool(name)}


def layout(title: str, traces: list[dict[str, Any]], x: str, y: str) -> Figure:
    """Traces with titles of the figure and its axes."""
    axis = {"zeroline": False, "automargin": True}
    return {
        "data": traces,
        "layout": {
            "title": {"text": html.escape(title), "font": {"size": 14}, "x": 0.02},
            "height": 280,
            "margin": {"l": 60, "r": 15, "t": 40, "b": 45},
            "font": {"family": "system-ui, sans-serif", "size": 12},
            "xaxis": {"title": {"text": x}, **axis},
            "yaxis": {"title": {"text": y}, **axis},
            "legend": {"orientation": "h", "y": -0.3},
        },
    }


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return f'<td class="words">{html.escape(value)}</td>'
    if value is None or not math.isfinite(value):
        return "<td></td>"
    return f"<td>{value:,d}</td>" if isinstance(value, int) else f"<td>{value:.4f}</td>"
