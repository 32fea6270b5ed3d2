"""The page of a search: is it better, by how much in each task, how sure are the weights, how flat is the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.artefacts import json_bytes
from fusion.page import BLUE, GREY, ORANGE, Figure, Section, document, intervals, layout, line, table
from fusion.search.report import Gain, SearchResult

_SHOWN = 2_000  # trials in the picture; beyond, every n-th that is not on the front


def write(result: SearchResult, folder: str | Path) -> Path:
    """`result.json`, `trials.parquet`, `front.parquet` and `report.html` (self-contained) below a folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    result.trials.to_parquet(target / "trials.parquet")
    result.trials.take(result.front).to_parquet(target / "front.parquet")
    (target / "result.json").write_bytes(json_bytes(result.summary()))
    (target / "report.html").write_text(page(result), encoding="utf-8")
    return target


def page(result: SearchResult) -> str:
    """The whole page, from a search's result."""
    low, high = result.gain_heldout_interval
    lead = (
        f"{result.formula.text}: {len(result.values):,} trials by {result.searcher}, seed {result.seed}, status {result.status}. "
        "Intervals (95 %) redraw users and keep the formulas paired."
    )
    sections = [
        Section("Is it better?", _words(result, low, high), _values(result)),
        Section(
            "Metric by metric",
            "The choice and hand_set on the later days: a formula may pay for one behaviour with another.",
            table(["metric", "hand_set", "searched", "gain", "low", "high", "", "guardrail"], _metrics(result)),
            [intervals("gain on later days", list(result.gains_heldout), [_gain(g) for g in result.gains_heldout.values()])],
        ),
        Section(
            "Trials and Pareto front",
            f"{int(result.front.sum()):,} trials keep the guardrails and are beaten in no metric by another one.",
            "",
            _fronts(result),
        ),
        Section(
            "Weights",
            "Normalised where their scale changes no ranking. The interval chooses again among the best trials on redrawn users; "
            "the flat stretch is where the objective loses at most one standard error "
            f"({_short(result.sensitivity.tolerance)}) when this parameter alone moves.",
            table(["parameter", "chosen", "low", "high", "flat from", "flat to"], _weights(result)),
        ),
        Section(
            "How flat is the choice?",
            "The objective on the search days along each parameter; the line is one standard error below the choice. "
            "A random step in all parameters, each up to 5 % of its range, loses "
            f"{_short(result.sensitivity.nearby_loss)} on average.",
            "",
            _curves(result),
        ),
    ]
    if result.directions:
        rows = [[t, result.goals[t], found, _kept(found, result.goals[t])] for t, found in result.directions.items()]
        words = "How the final score moves when a task's score rises and all else stays, proved over the formula's tree."
        sections.append(Section("Monotone", words, table(["task", "goal", "proved", ""], rows)))
    return document("Searched fusion", lead, sections, "result.json")


def _words(result: SearchResult, low: float, high: float) -> str:
    verdict = "cannot be told" if math.isnan(low) else "better" if low > 0 else "worse" if high < 0 else "no proven difference"
    found, later = result.value_search - result.hand_set.value_search, result.gain_heldout
    return (
        f"Over hand_set: {verdict}. The gain was {_short(found)} where the weights were chosen and is {_short(later)} on later "
        f"days; the difference, {_short(found - later)}, is what choosing the best of many trials flatters (the winner's curse)."
    )


def _values(result: SearchResult) -> str:
    later = result.value_heldout_interval
    gain = result.gain_heldout_interval
    rows: list[Sequence[str | float | None]] = [
        ["hand_set", result.hand_set.value_search, result.hand_set.value_heldout, None, None, None, None, None],
        ["best of 200 random", result.random200.value_search, result.random200.value_heldout, None, None,
         result.random200.value_heldout - result.hand_set.value_heldout, None, None],
        ["searched", result.value_search, result.value_heldout, *later, result.gain_heldout, *gain],
    ]  # fmt: skip
    return table(["formula", "search days", "later days", "low", "high", "over hand_set", "low", "high"], rows)


def _metrics(result: SearchResult) -> list[Sequence[str | float | None]]:
    rows: list[Sequence[str | float | None]] = []
    guards = {guard.metric: guard.eps for guard in result.guardrails}
    for name, gain in result.gains_heldout.items():
        low, high = gain.interval
        verdict = "" if math.isnan(low) else "better" if low > 0 else "worse" if high < 0 else "no proven difference"
        floor = (1 - guards[name]) * gain.control if name in guards else math.nan
        kept = "" if name not in guards else f"at least {floor:.4f}: {'kept' if gain.chosen >= floor else 'broken on later days'}"
        rows.append([name, gain.control, gain.chosen, gain.chosen - gain.control, low, high, verdict, kept])
    return rows


def _weights(result: SearchResult) -> list[Sequence[str | float | None]]:
    curves = result.sensitivity.curves
    return [
        [name, value, *result.weight_intervals[name], curves[name].flat_low, curves[name].flat_high]
        for name, value in result.weights.items()
    ]


def _fronts(result: SearchResult) -> list[Figure]:
    """One metric: value by trial. Several: the first against each of the others."""
    names = result.objective.names
    if len(names) == 1:
        return [_front(result, np.arange(len(result.values)), result.values, "trial", names[0])]
    return [_front(result, result.terms[:, 0], result.terms[:, m], names[0], names[m]) for m in range(1, min(len(names), 5))]


def _front(result: SearchResult, x: Any, y: Any, x_name: str, y_name: str) -> Figure:
    front = result.front
    others = np.flatnonzero(~front)
    others = others[:: max(1, len(others) // _SHOWN)]
    best = int(np.flatnonzero((result.vectors == list(result.weights.values())).all(axis=1))[0])
    traces = [
        _points(result, x, y, others, "trials", GREY, 5),
        _points(result, x, y, np.flatnonzero(front), "Pareto front", BLUE, 7),
        _points(result, x, y, np.array([best]), "chosen", ORANGE, 13),
    ]
    figure = layout(f"{y_name} against {x_name}", traces, x_name, y_name)
    figure["layout"]["height"] = 380
    return figure


def _points(result: SearchResult, x: Any, y: Any, rows: Any, name: str, colour: str, size: int) -> dict[str, Any]:
    seen = rows[np.isfinite(x[rows].astype(float)) & np.isfinite(y[rows])]
    text = [", ".join(f"{n}={w:.3g}" for n, w in zip(result.space.names, v, strict=True)) for v in result.vectors[seen]]
    marker = {
        "size": size,
        "color": colour,
        "symbol": "star" if name == "chosen" else "circle",
        "opacity": 0.4 if colour == GREY else 1,
    }
    return {"type": "scatter", "mode": "markers", "x": x[seen].tolist(), "y": y[seen].tolist(), "name": name, "text": text,
            "marker": marker, "showlegend": True}  # fmt: skip


def _curves(result: SearchResult) -> list[Figure]:
    figures = []
    for name, curve in result.sensitivity.curves.items():
        seen = np.isfinite(curve.value)
        at, value = curve.at[seen], curve.value[seen]
        order = np.argsort(at)
        traces = [dict(line(at[order].tolist(), value[order].tolist(), ""))]
        if math.isfinite(result.sensitivity.tolerance) and len(at):
            floor = result.value_search - result.sensitivity.tolerance
            traces.append(dict(line([float(at.min()), float(at.max())], [floor, floor], "", GREY, dash="dot")))
        chosen = {"type": "scatter", "mode": "markers", "x": [result.weights[name]], "y": [result.value_search],
                  "marker": {"size": 10, "color": ORANGE}, "showlegend": False}  # fmt: skip
        figures.append(layout(name, [*traces, chosen], name, "objective"))
    return figures


def _gain(gain: Gain) -> tuple[float, float, float]:
    return (gain.chosen - gain.control, *gain.interval)


def _kept(found: str, goal: str) -> str:
    return "as it should" if found in (goal, "constant") else "not proved" if found == "unknown" else "against its goal"


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
