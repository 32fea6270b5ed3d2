"""Estimates of several policies as a page, a table and JSON: interval, diagnostics, and the truth where it is known."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from core.artefacts import json_bytes
from fusion.ope.estimate import STATUSES, Estimate

_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")  # Okabe-Ito
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right}"
    "td:nth-child(-n+3),th:nth-child(-n+3),td:last-child,th:last-child{text-align:left}"
    ".no{color:#8a4b00}.wide{overflow-x:auto}"
)
HEADERS = ("policy", "estimator", "status", "value", "low", "high", "truth", "effective", "largest", "capped", "reach")


@dataclass(frozen=True)
class OpeReport:
    """What was asked of one log and what it answered.

    Args:
        source: The log in words.
        logged: What the logging policy itself got.
        estimates: One a policy and estimator.
        truth: Mean return by policy, with its interval, where a simulator told it.
        about: Settings worth keeping.
    """

    source: str
    logged: Estimate
    estimates: Sequence[Estimate]
    truth: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def rows(self) -> list[list[str | float]]:
        """The table under `HEADERS`; NaN where there is nothing to say."""
        return [
            [
                *(e.policy, e.estimator, e.status, e.value, e.low, e.high, self.truth.get(e.policy, (nan,))[0]),
                *(e.effective, e.largest, e.capped, e.reach),
            ]
            for e in (self.logged, *self.estimates)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values; what could not be computed is null."""
        truth = {name: dict(zip(("value", "low", "high"), found, strict=True)) for name, found in self.truth.items()}
        return {
            "source": self.source,
            "logged": self.logged.to_json(),
            "estimates": [estimate.to_json() for estimate in self.estimates],
            "truth": truth,
            "about": dict(self.about),
        }

    def write(self, folder: str | Path) -> Path:
        """`ope.json` and `ope.html` (it needs no network) below a folder; returns the page's path."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / "ope.json").write_bytes(json_bytes(self.to_json()))
        page = target / "ope.html"
        page.write_text(self.html())
        return page

    def html(self) -> str:
        """The page."""
        statuses = sorted({e.status for e in self.estimates} - {"ok"})
        why = "".join(f"<li><b>{s}</b>: {html.escape(STATUSES[s])}</li>" for s in statuses)
        notes = "".join(
            f"<li><b>{html.escape(e.policy)}</b>, {e.estimator}: {html.escape(e.note)}</li>"
            for e in self.estimates
            if e.status == "ok" and e.note
        )
        parts = [
            "<h1>Off-policy evaluation</h1>",
            f"<p>{html.escape(self.source)}. The logging policy itself got {_number(self.logged.value)}"
            f" [{_number(self.logged.low)}, {_number(self.logged.high)}] a session. Bars are 95 % intervals over users.</p>",
            self.figure().to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}),
            f"<div class='wide'>{self._table()}</div>",
            "<p><b>effective</b>: sessions that the weights leave; <b>largest</b>: the heaviest session or page as a share of all"
            " weight; <b>capped</b>: share of weights cut; <b>reach</b>: how far the policy's pages lie beyond the logged ones in"
            " the model's features (1: where the log was).</p>",
            f"<h2>Without an estimate</h2><ul>{why}</ul>" if why else "",
            f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "",
        ]
        head = f'<meta charset="utf-8"><title>Off-policy evaluation</title><style>{_STYLE}</style>'
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'

    def figure(self) -> go.Figure:
        """Values with intervals by policy, one colour an estimator; stars are the truth."""
        figure = go.Figure()
        policies = list(dict.fromkeys(e.policy for e in self.estimates))
        names = list(dict.fromkeys(e.estimator for e in self.estimates))
        step = 0.7 / max(1, len(names))
        for number, name in enumerate(names):
            some = [e for e in self.estimates if e.estimator == name and e.status == "ok"]
            figure.add_trace(
                go.Scatter(
                    x=[policies.index(e.policy) + (number - (len(names) - 1) / 2) * step for e in some],
                    y=[e.value for e in some],
                    error_y={
                        "array": [e.high - e.value for e in some],
                        "arrayminus": [e.value - e.low for e in some],
                        "type": "data",
                    },
                    mode="markers",
                    name=name,
                    marker={"color": _COLORS[number % len(_COLORS)]},
                    hovertext=[e.policy for e in some],
                )
            )
        if self.truth:
            known = [name for name in policies if name in self.truth]
            marker = {"symbol": "star", "size": 13, "color": "#222"}
            at = [policies.index(name) for name in known]
            figure.add_trace(
                go.Scatter(x=at, y=[self.truth[name][0] for name in known], mode="markers", name="truth", marker=marker)
            )
        if isfinite(self.logged.value):
            figure.add_hline(y=self.logged.value, line_dash="dot", annotation_text="logging policy")
        figure.update_xaxes(tickvals=list(range(len(policies))), ticktext=policies)
        figure.update_yaxes(title="return a session")
        figure.update_layout(height=480, margin={"t": 30}, legend={"orientation": "h", "y": -0.15})
        return figure

    def _table(self) -> str:
        lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in HEADERS) + "</tr>"]
        for row in self.rows():
            cells = "".join(f"<td>{html.escape(c) if isinstance(c, str) else _number(c)}</td>" for c in row)
            lines.append(f"<tr{'' if row[2] == 'ok' else ' class=no'}>{cells}</tr>")
        return f"<table>{''.join(lines)}</table>"


def _number(value: float) -> str:
    if not isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"
