"""The report as one HTML page: Plotly comes from its wheel and is written into the page, so nothing is fetched."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from plotly.offline import get_plotlyjs

COLOURS = ("#2c5f8a", "#c2571a", "#3f7d4e", "#8a4f9e", "#b03a48", "#6b6b3a", "#3a8f8f", "#7a5c45")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;background:#fff;max-width:1120px;margin:2rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .2rem}p{margin:.2rem 0 .6rem;color:#4a5866;max-width:75ch}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.25rem .9rem .25rem 0;text-align:right}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:1px solid #aab4be;font-weight:600}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(330px,1fr));gap:.5rem}
@media print{h2{break-after:avoid}.plot{break-inside:avoid}}
"""
Figure = dict[str, Any]


def page(facts: Mapping[str, Any]) -> str:
    """The whole page, from `facts`."""
    title = f"Ranker {facts['model']}"
    sections = [
        ("Metrics", "On the rows that chose the epoch.", _metrics(facts), []),
        (
            "Learning curves",
            "Training loss (dotted) and validation loss by task; the chosen epoch is marked.",
            "",
            _curves(facts),
        ),
        (
            "Calibration",
            "Rate of positives against the mean prediction in bins of equal counts, with 95 % intervals; the line is perfect.",
            "",
            _calibration(facts),
        ),
        (
            "Expert utilisation",
            "Mean gate weight, and its standard deviation over rows in the hover text.",
            "",
            [_heat(gate, v["mean"], v["readers"], v["experts"], v["std"]) for gate, v in facts["utilisation"].items()],
        ),
        (
            "Expert selection",
            "How often a scenario or task selects an expert, as its own or as a shared one, and the gate weight it gives.",
            "",
            [f for level, v in facts["selection"].items() for f in _selection(level, v)],
        ),
        (
            "Attention by behaviour",
            "Lift: how many times its equal share of the sequence a behaviour of this kind gets.",
            "",
            _attention(facts["attention"]),
        ),
        (
            "One user's attention",
            "The weight of each behaviour, oldest on the left, for each value that the model is asked about.",
            "",
            _one(facts["attention_of_one"]),
        ),
        (
            "Gradient cosines",
            "Between the tasks' gradients on the shared layers, mean over batches; below 0 two tasks pull apart.",
            "",
            _cosines(facts["gradient_cosines"]),
        ),
    ]
    body: list[str] = []
    figures: list[Figure] = []
    for name, what, text, drawn in sections:
        if not text and not drawn:
            continue
        places = []
        for figure in drawn:
            places.append(f'<div class="plot" id="f{len(figures)}"></div>')
            figures.append(figure)
        body.append(f'<h2>{name}</h2><p>{what}</p>{text}<div class="row">{"".join(places)}</div>')
    size = facts["parameters"]
    head = (
        f"<h1>{html.escape(title)}</h1><p>{facts['n_rows']:,} rows, seed {facts['seed']}, best epoch {facts['best_epoch']:g}; "
        f"{size['dense']:,} numbers in dense layers, {size['tables']:,} in embedding tables. "
        f"Options: {html.escape(json.dumps(facts['options']))}</p>"
    )
    data = json.dumps(figures).replace("</", "<\\/")
    draw = "F.forEach((f,i)=>Plotly.newPlot('f'+i,f.data,f.layout,{displayModeBar:false,responsive:true}))"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>'
        f"<body>{head}{''.join(body)}<script>const F={data};{draw}</script></body></html>"
    )


def _metrics(facts: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for row in facts["metrics"].values() for name in row if "_" not in name))
    head = "".join(f"<th>{name}</th>" for name in ["task", *names])
    rows = []
    for task, row in facts["metrics"].items():
        cells = "".join(f"<td>{_number(row.get(name))}</td>" for name in names)
        rows.append(f"<tr><td>{html.escape(task)}</td>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4f}"


def _curves(facts: Mapping[str, Any]) -> list[Figure]:
    curves = facts["curves"]
    figures = []
    for at, task in enumerate(facts["tasks"]):
        colour = COLOURS[at % len(COLOURS)]
        lines = [
            _line(curves["epoch"], curves["valid_loss"][task], "validation", colour),
            _line(curves["train_epoch"], curves["train_loss"][task], "training", colour, dash="dot"),
        ]
        figure = _figure(task, lines, "epoch", "loss")
        figure["layout"]["shapes"] = [_marked(facts["best_epoch"])]
        figures.append(figure)
    weights = {task: w for task, w in curves["weights"].items() if any(v is not None for v in w)}
    if len({v for w in weights.values() for v in w}) > 1:
        lines = [
            _line(curves["train_epoch"], w, task, COLOURS[i % len(COLOURS)], legend=True)
            for i, (task, w) in enumerate(weights.items())
        ]
        figures.append(_figure("loss weights", lines, "epoch", "weight"))
    figures.append(_figure("monitored score", [_line(curves["epoch"], curves["score"], "score", COLOURS[0])], "epoch", "score"))
    return figures


def _calibration(facts: Mapping[str, Any]) -> list[Figure]:
    figures = []
    for at, (task, bins) in enumerate(facts["calibration"].items()):
        if not bins["predicted"]:
            continue
        top = max(*bins["predicted"], *bins["rate_high"])
        points = {
            "type": "scatter",
            "mode": "markers",
            "x": bins["predicted"],
            "y": bins["rate"],
            "marker": {"color": COLOURS[at % len(COLOURS)], "size": 7},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [high - rate for high, rate in zip(bins["rate_high"], bins["rate"], strict=True)],
                "arrayminus": [rate - low for low, rate in zip(bins["rate_low"], bins["rate"], strict=True)],
                "thickness": 1,
            },
            "showlegend": False,
        }
        line = _line([0, top], [0, top], "perfect", "#8a949e", dash="dash")
        figures.append(_figure(task, [line, points], "mean prediction", "rate"))
    return figures


def _selection(level: str, value: Mapping[str, Any]) -> list[Figure]:
    experts = [f"e{i + 1}" for i in range(len(value["specific"][0]))]
    groups = value["groups"]
    return [
        _heat(f"{level}: selected as its own", value["specific"], groups, experts, top=1.0),
        _heat(f"{level}: selected as shared", value["shared"], groups, experts, top=1.0),
        _heat(f"{level}: gate weight", value["gate_mean"], groups, experts, value["gate_std"]),
    ]


def _attention(value: Mapping[str, Any] | None) -> list[Figure]:
    if value is None:
        return []
    title = " x ".join(value["properties"])
    return [_heat(title, value["lift"], value["rows"], value["columns"], low=0.0)]


def _one(value: Mapping[str, Any] | None) -> list[Figure]:
    if value is None:
        return []
    entries = [f"{i + 1}: {entry}" for i, entry in enumerate(value["entries"])]
    return [_heat(f"user {value['user']} by {value['feature']}", value["attention"], value["values"], entries, text=False)]


def _cosines(value: Mapping[str, Any] | None) -> list[Figure]:
    if value is None:
        return []
    names = value["tasks"]
    figure = _heat(f"{value['n_batches']} batches", value["mean"], names, names)
    figure["data"][0] |= {"colorscale": [[0, "#b03a48"], [0.5, "#ffffff"], [1, "#2c5f8a"]], "zmin": -1, "zmax": 1}
    return [figure]


def _heat(
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
    figure = _figure(title, [trace], "", "")
    figure["layout"]["height"] = 130 + 34 * max(len(rows), 3)
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
    figure["layout"]["xaxis"] |= {"type": "category"}
    return figure


def _line(x: list[float], y: list[float], name: str, colour: str, *, dash: str = "solid", legend: bool = False) -> dict[str, Any]:
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


def _marked(epoch: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": epoch,
        "x1": epoch,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "#8a949e", "width": 1, "dash": "dash"},
    }


def _figure(title: str, data: list[dict[str, Any]], x: str, y: str) -> Figure:
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
