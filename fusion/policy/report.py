"""A policy's page: learning curves, returns beside baselines and oracle, off-policy estimates beside the truth, how the weights
vary over users and steps, guardrails."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from core.arrays import AnyArray, Floats
from core.artefacts import json_bytes

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
)


@dataclass(frozen=True)
class Table:
    """Rows under headers; numbers are rounded when shown, kept whole in the JSON."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


@dataclass(frozen=True)
class PolicyReport:
    """What is known of one policy.

    Args:
        settings: Algorithm, seed, data and all that training was told.
        history: The trainer's rows: `update` and each loss.
        tables: Returns, guardrails, off-policy estimates; whatever could be measured.
        weights: Mean parameters by title, group (a cohort, a step) and parameter name.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, float]] = ()
    tables: Sequence[Table] = ()
    weights: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)

    def write(self, folder: str | Path) -> Path:
        """`report.json` and `report.html` (it needs no network) below a folder; returns the page's path."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / "report.json").write_bytes(json_bytes(plain(asdict(self))))
        page = target / "report.html"
        page.write_text(self.html())
        return page

    def html(self) -> str:
        """The page."""
        parts = [f"<h1>{html.escape(self.name)}</h1>", _settings(self.settings)]
        parts += [_table(table) for table in self.tables]
        figures = [("How the weights vary: " + title, _heat(groups)) for title, groups in self.weights.items()]
        figures += [(f"Training: {name}", _curve(name, self.history)) for name in _losses(self.history)]
        for number, (title, figure) in enumerate(figures):
            parts.append(f"<h2>{html.escape(title)}</h2>")
            parts.append(figure.to_html(full_html=False, include_plotlyjs=number == 0))
        head = f'<meta charset="utf-8"><title>{html.escape(self.name)}</title><style>{_STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def mean_weights(groups: AnyArray, weights: AnyArray, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean parameters `[n, P]` of each group `[n]` (text), in the order of the groups' names.

    >>> mean_weights(np.array(["a", "b", "a"]), np.array([[1.0], [5.0], [2.0]]), ["w"])
    {'a': {'w': 1.5}, 'b': {'w': 5.0}}
    """
    found: dict[str, dict[str, float]] = {}
    for group in np.unique(groups):
        mean: Floats = np.asarray(weights, float)[groups == group].mean(0)
        found[str(group)] = dict(zip(names, mean.tolist(), strict=True))
    return found


def plain(value: Any) -> Any:
    """JSON values: tuples become lists, numbers that are not finite null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _losses(history: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in (history[0] if history else ()) if name != "update"]


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [
        [name, value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)]
        for name, value in settings.items()
    ]
    return _table(Table("Made with", ["setting", "value"], rows))


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.headers)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>{body}</table>"


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return "&ndash;" if value is None or not np.isfinite(value) else f"{value:,.4g}"


def _curve(name: str, history: Sequence[Mapping[str, float]]) -> go.Figure:
    rows = [row for row in history if name in row]
    figure = go.Figure(go.Scatter(x=[row["update"] for row in rows], y=[row[name] for row in rows], mode="lines"))
    return figure.update_layout(height=260, margin={"t": 10}, xaxis_title="update", yaxis_title=name)


def _heat(groups: Mapping[str, Mapping[str, float]]) -> go.Figure:
    names = list(next(iter(groups.values()), {}))
    values = [[row[name] for name in names] for row in groups.values()]
    figure = go.Figure(go.Heatmap(x=names, y=list(groups), z=values, colorscale="Blues", texttemplate="%{z:.2f}"))
    return figure.update_layout(height=120 + 36 * len(groups), margin={"t": 10})
