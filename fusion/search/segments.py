"""Weights by scenario or cohort: search each segment by itself, and judge whether that beats one set of weights for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from core.arrays import AnyArray
from core.artefacts import json_bytes
from core.errors import ConfigError, DataError
from core.events import SCORE
from core.logs import LoggedDataset
from fusion.page import Section, document, intervals, table
from fusion.search.bootstrap import Interval, interval, panel_draws
from fusion.search.evaluator import Evaluator
from fusion.search.judged import Judged
from fusion.search.page import write
from fusion.search.panel import Panel
from fusion.search.report import SearchResult
from fusion.segmented_strategy import SegmentedFormula

SearchOne: TypeAlias = Callable[[LoggedDataset, LoggedDataset, Path | None], SearchResult]  # search days, later days, folder


@dataclass(frozen=True)
class SegmentedResult:
    """One search over everything, one in each segment, and what the segments' own weights are worth together on later days.

    Attributes:
        left_out: Why a segment has no weights of its own: it takes those of all.
        gain_over_one: Of the segments' weights over one set for all, on the whole later log, paired by user in its interval.
    """

    column: str
    overall: SearchResult
    segments: Mapping[str, SearchResult]
    left_out: Mapping[str, str]
    gain_over_one: float
    gain_over_one_interval: Interval

    @property
    def strategy(self) -> SegmentedFormula:
        """Ready to serve or publish: the request's context names the segment."""
        return SegmentedFormula(self.column, self.overall.strategy, {v: r.weights for v, r in self.segments.items()})

    def summary(self) -> dict[str, Any]:
        """The result as JSON values."""
        low, high = self.gain_over_one_interval
        return {
            "column": self.column,
            "overall": self.overall.summary(),
            "segments": {value: result.summary() for value, result in self.segments.items()},
            "left_out": dict(self.left_out),
            "gain_over_one": self.gain_over_one,
            "gain_over_one_interval": [None if np.isnan(x) else x for x in (low, high)],
        }

    def write(self, folder: str | Path) -> Path:
        """The overall search's files, each segment's below `<column>-<value>`, `segments.json` and `segments.html`."""
        target = write(self.overall, folder)
        for value, result in self.segments.items():
            write(result, _folder(target, self.column, value))
        (target / "segments.json").write_bytes(json_bytes(self.summary()))
        (target / "segments.html").write_text(self.page(), encoding="utf-8")
        return target

    def page(self) -> str:
        """Weights and gains by segment."""
        names = list(self.overall.weights)
        everything = {"all": self.overall, **self.segments}
        rows: list[Sequence[str | float | None]] = [
            [value, *(r.weights[n] for n in names), r.value_heldout, r.gain_heldout, *r.gain_heldout_interval]
            for value, r in everything.items()
        ]
        rows += [[value, *[None] * len(names), None, None, None, None] for value in self.left_out]
        low, high = self.gain_over_one_interval
        lead = f"{self.overall.formula.text}; weights by {self.column}, each searched on the segment's own rows."
        words = (
            f"On the whole later log the segments' weights gain {self.gain_over_one:+.4f} [{low:+.4f}, {high:+.4f}] over one set "
            "for all. The table compares each segment's weights with hand_set on its own later rows. "
            + " ".join(f"{value} takes the weights of all: {why}." for value, why in self.left_out.items())
        )
        figure = intervals(
            "gain over hand_set on later days",
            list(everything),
            [(r.gain_heldout, *r.gain_heldout_interval) for r in everything.values()],
        )
        body = table([self.column, *names, "later days", "over hand_set", "low", "high"], rows)
        return document(f"Fusion by {self.column}", lead, [Section("Is it better?", words, body, [figure])], "segments.json")


def search_segments(
    search_one: SearchOne,
    log: LoggedDataset,
    heldout: LoggedDataset,
    *,
    column: str,
    min_users: int = 100,
    folder: str | Path | None = None,
    n_draws: int = 200,
    seed: int = 0,
) -> SegmentedResult:
    """Search everything, then each value of a column by itself.

    Args:
        search_one: A search of one pair of logs, such as a closure over `fusion.search.search`; its folder is None or where it
            keeps its trials.
        column: A column of both logs: `scenario`, or any attribute of the user that serving will find in the context.
        min_users: A segment with fewer users on the search days takes the weights of all; so does one where no metric can be
            computed.

    Raises:
        ConfigError: A row's request holds several segments, so that no request could be served by one set of weights.
    """
    root = None if folder is None else Path(folder)
    overall = search_one(log, heldout, root)
    values = log.require([column])[column].astype(str)
    later = heldout.require([column])[column].astype(str)
    _one_a_request(log, values, column)
    segments: dict[str, SearchResult] = {}
    left_out: dict[str, str] = {}
    for value in np.unique(values).tolist():
        rows = values == value
        n_users = len(np.unique(log["user_id"][rows].astype(str)))
        if n_users < min_users:
            left_out[value] = f"it has {n_users} users on the search days, {min_users} are needed"
            continue
        try:
            below = None if root is None else _folder(root, column, value)
            segments[value] = search_one(log.take(rows), heldout.take(later == value), below)
        except DataError as error:
            left_out[value] = str(error)
    gain, of_gain = _judge(overall, segments, heldout, column, n_draws, seed)
    return SegmentedResult(column, overall, segments, left_out, gain, of_gain)


def _judge(
    overall: SearchResult, segments: Mapping[str, SearchResult], heldout: LoggedDataset, column: str, n_draws: int, seed: int
) -> tuple[float, Interval]:
    """Both on all later rows: one set of weights, and each row by its segment's."""
    log = heldout if overall.calibration is None else overall.calibration.apply_log(heldout)
    panel = Panel(log, overall.objective)
    one = Evaluator(overall.formula, panel).finals(overall.weights)
    own = np.array(one)
    value = panel.log[column].astype(str)
    request = np.repeat(np.arange(len(panel.requests) - 1), np.diff(panel.requests))
    for name, result in segments.items():
        rows = np.flatnonzero(value == name)
        if len(rows) == 0:
            continue
        starts = np.append(np.flatnonzero(np.diff(request[rows], prepend=-1)), len(rows)).astype(np.int64)
        formula = result.formula
        columns = {task: np.asarray(panel.log[SCORE + task][rows], dtype=np.float64) for task in formula.tasks}
        context = {n: panel.log[n][rows] for n in formula.context}
        own[rows] = formula.final(columns, result.weights, context, starts).values
    draws = panel_draws(panel, n_draws, seed)
    ours, theirs = (Judged(final, panel.log, panel.objective) for final in (own, one))
    return ours.value - theirs.value, interval(ours.draws(draws) - theirs.draws(draws))


def _one_a_request(log: LoggedDataset, values: AnyArray, column: str) -> None:
    if "request_id" not in log:
        return
    _, request = np.unique(log["request_id"].astype(str), return_inverse=True)
    pairs = np.unique(np.stack([request, np.unique(values, return_inverse=True)[1]]), axis=1)
    if pairs.shape[1] > len(np.unique(request)):
        raise ConfigError(f"column {column!r} differs within a request; segments must be of whole requests")


def _folder(root: Path, column: str, value: str) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in value)
    return root / f"{column}-{safe}"
