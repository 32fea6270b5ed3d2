"""Drift while serving: a sample is counted, a shift shows in the metric and the log, another release starts anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.drift import ACT, LOOK, Reference
from core.events import Request
from core.scores import ScoreTable
from serving.drift import ENOUGH, EVERY, WINDOW, DriftMonitor
from serving.engine import Engine
from serving.metrics import render
from serving.service import Service
from tests.serving.fakes import MemoryWriter, release

RNG = np.random.default_rng(0)
REFERENCE = Reference.of({"click": RNG.random(5000)})


def feed(monitor: DriftMonitor, n_requests: int, low: float = 0.0, reference: Reference | None = REFERENCE) -> None:
    for _ in range(n_requests):
        monitor.add(reference, ScoreTable(("like", "click"), RNG.uniform(low, 1, (100, 2))))


def test_the_same_scores_have_little_drift_and_others_raise_an_alarm() -> None:
    monitor = DriftMonitor()
    feed(monitor, 50 * EVERY)
    assert monitor.psi()["click"] < LOOK
    assert monitor.alarms() == {}
    feed(monitor, 200 * EVERY, low=0.5)
    assert monitor.psi()["click"] > ACT
    assert set(monitor.alarms()) == {"click"}


def test_nothing_is_said_before_enough_scores_or_without_a_reference() -> None:
    monitor = DriftMonitor()
    feed(monitor, (ENOUGH // 100 - 1) * EVERY)
    assert monitor.psi() == {}
    feed(monitor, EVERY)
    assert set(monitor.psi()) == {"click"}
    feed(monitor, 10 * EVERY, reference=None)
    assert monitor.psi() == {}


def test_old_scores_fade() -> None:
    """After a window of shifted scores and three of right ones, the shift is forgotten."""
    monitor = DriftMonitor()
    feed(monitor, WINDOW // 100 * EVERY, low=0.6)
    assert monitor.alarms()
    feed(monitor, 3 * WINDOW // 100 * EVERY)
    assert monitor.psi()["click"] < LOOK


def test_the_service_shows_it_by_task_and_replica(caplog: pytest.LogCaptureFixture) -> None:
    task = "click"
    made = replace(release(), reference=Reference.of({task: np.linspace(1e6, 2e6, 100)}))  # the served scores lie far below
    service = Service(Engine(made), MemoryWriter(), replica="a")
    for i in range(3 * EVERY):
        service.rank(Request(f"r{i}", "u", np.arange(400)))
    lines = [line for line in render([service.snapshot()]).splitlines() if line.startswith("scorefusion_score_psi{")]
    assert len(lines) == 1
    assert lines[0].startswith(f'scorefusion_score_psi{{task="{task}",replica="a"}} ')
    assert float(lines[0].split()[-1]) > ACT
    for now in (0.0, 1.0, 61.0):
        service._warn_of_drift(now)
    assert [record.message for record in caplog.records if "drifted" in record.message] == [
        "scores have drifted from the release's reference"
    ] * 2
