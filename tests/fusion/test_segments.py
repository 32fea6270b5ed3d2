"""Weights by scenario: found where scenarios want different ones, judged together on later days, published and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.scores import ScoreTable
from fusion.formula import Formula
from fusion.search import Objective, Param, SearchResult, Space, gauc, search
from fusion.search.segments import search_segments
from fusion.strategy import load_strategy, publish

FORMULA = Formula.parse("a * click + b * like", tasks=["click", "like"], params=["a", "b"])


def world(seed: int, n: int = 12_000) -> LoggedDataset:
    """In the feed clicks make an item worth showing, on the search page likes do; a third page is rare."""
    rng = np.random.default_rng(seed)
    scores = rng.random((n, 2))
    request = np.arange(n) // 20
    scenario = rng.choice(["feed", "search", "rare"], n // 20, p=[0.6, 0.38, 0.02])[request]
    final = np.where(scenario == "feed", scores @ [0.9, 0.1], scores @ [0.1, 0.9])
    return LoggedDataset(
        {
            "user_id": request % 200,
            "request_id": request,
            "scenario": scenario.astype(object),
            "worth": (rng.random(n) < 1 / (1 + np.exp(-6 * (final - 0.5)))) * 1.0,
            "score_click": scores[:, 0],
            "score_like": scores[:, 1],
        }
    )


def search_one(log: LoggedDataset, heldout: LoggedDataset, folder: Path | None) -> SearchResult:
    return search(
        FORMULA, log, heldout, space=Space([Param("a"), Param("b")], scale_free=[["a", "b"]]),
        objective=Objective([gauc("worth")]), hand_set={"click": 1.0, "like": 1.0}, searcher="grid", n_trials=121,
        n_draws=100, folder=folder, progress=False,
    )  # fmt: skip


def test_scenarios_get_the_weights_they_want(tmp_path: Path) -> None:
    found = search_segments(search_one, world(0), world(1), column="scenario", folder=tmp_path / "out")
    assert found.segments["feed"].weights["a"] > 0.75
    assert found.segments["search"].weights["a"] < 0.25
    assert list(found.left_out) == ["rare"]
    assert "users on the search days" in found.left_out["rare"]
    assert found.gain_over_one_interval.low > 0.01
    low, high = found.gain_over_one_interval
    assert low < found.gain_over_one < high

    strategy = load_strategy(publish(ArtefactStore(tmp_path / "store"), "by_scenario", found.strategy))
    table = ScoreTable(("click", "like"), np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert np.argmax(strategy.fuse(table, {"scenario": "feed"}).final) == 0
    assert np.argmax(strategy.fuse(table, {"scenario": "search"}).final) == 1
    for context in ({"scenario": "rare"}, {}):
        np.testing.assert_array_equal(strategy.fuse(table, context).final, found.overall.strategy.fuse(table).final)

    found.write(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"segments.html", "segments.json", "report.html", "scenario-feed"}


def test_a_request_belongs_to_one_segment() -> None:
    mixed = world(0).with_columns({"scenario": np.resize(np.array(["feed", "search"], dtype=object), 12_000)})
    with pytest.raises(ConfigError, match="differs within a request"):
        search_segments(search_one, mixed, mixed, column="scenario")
