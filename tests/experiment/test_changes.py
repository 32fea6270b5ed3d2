"""The history says who changed what and when, and whether units were moved."""

from __future__ import annotations

from typing import Any

from experiment.changes import compare_plans, history, record
from experiment.plan import Plan
from experiment.store import EventStore


def make(version: int, weights: tuple[float, float] = (0.5, 0.5), **fields: Any) -> Plan:
    buckets = [{"name": name, "weight": weight} for name, weight in zip("ab", weights, strict=True)]
    experiments = [{"name": "e", "buckets": buckets, **fields}]
    return Plan.from_value({"version": version, "layers": [{"name": "l", "experiments": experiments}]})


def test_a_ramp_keeps_units_and_new_weights_move_some() -> None:
    assert compare_plans(make(1, coverage=0.1), make(2, coverage=0.5)).keeps_units
    moved = compare_plans(make(1), make(2, weights=(0.6, 0.4)))
    assert 0.08 < moved.moved["l"] < 0.12
    assert "layers.l.experiments.e.buckets.a.weight: 0.5 -> 0.6" in moved.lines
    assert compare_plans(make(1), make(2, seed="other")).moved["l"] > 0.4
    assert compare_plans(make(1), Plan.from_value({"layers": []})).moved["l"] == 1.0


def test_history_says_who_when_and_what(store: EventStore) -> None:
    record(store, make(1, coverage=0.1), who="ann", time_ms=10, note="start")
    record(store, make(2, coverage=0.5), who="bob", time_ms=20, note="ramp")
    first, second = history(store)
    assert (first["who"], first["changes"]) == ("ann", [])
    assert (second["who"], second["time_ms"], second["note"]) == ("bob", 20, "ramp")
    assert second["changes"] == ["version: 1 -> 2", "layers.l.experiments.e.coverage: 0.1 -> 0.5"]
    assert second["moved"] == {"l": 0.0}
