"""Killed at any moment, the store has every acknowledged event exactly once; held by another process, it says so."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import StoreError
from experiment.checks import feedback_rows
from experiment.store import open_store

ROOT = Path(__file__).parents[2]

# Sends batches of 20 events, each batch twice as a nervous client would, and prints a batch's number once it is acknowledged.
WRITER = """
import sys
import pyarrow as pa
from experiment.store import open_store

def feedback_rows(ids):
    n = len(ids)
    columns = {"event_id": ids, "request_id": ids, "item_id": range(n), "task": ["click"] * n, "value": [1.0] * n}
    columns["time_ms"] = range(n)
    return pa.table({name: pa.array(column) for name, column in columns.items()})

store, start = open_store(sys.argv[1]), int(sys.argv[2])
for batch in range(start, start + 100_000):
    rows = feedback_rows([f"{batch}-{i}" for i in range(20)])
    store.append(feedback=rows)
    print(batch, flush=True)
    store.append(feedback=rows)
"""

HOLDER = """
import sys, time
from experiment.store import open_store

store = open_store(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def test_kill_9_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    url = f"duckdb://{tmp_path}/events.duckdb"
    moments = random.Random(7)
    acknowledged: list[int] = []
    for round_ in range(5):
        writer = python(WRITER, url, str(round_ * 100_000))
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(moments.uniform(0.01, 0.6))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        writer.wait()
        lines = (first + rest).split("\n")[:-1]  # a line cut by the kill was not acknowledged
        acknowledged += [int(line) for line in lines]
    store = open_store(url)
    rows = store.arrow("SELECT event_id, count(*) AS n FROM feedback GROUP BY event_id").to_pydict()
    found = dict(zip(rows["event_id"], rows["n"], strict=True))
    assert len(acknowledged) >= 5
    assert {f"{batch}-{i}" for batch in acknowledged for i in range(20)} <= set(found)
    assert set(found.values()) == {1}
    batches = {event.split("-")[0] for event in found}
    assert len(found) == 20 * len(batches)  # a batch is there whole or not at all
    last = max(acknowledged)
    retry = store.append(feedback=feedback_rows([f"{last}-{i}" for i in range(20)]))
    assert retry.new["feedback"] == 0
    store.close()


def test_a_file_held_by_another_process_is_one_clear_error(tmp_path: Path) -> None:
    url = f"duckdb://{tmp_path}/events.duckdb"
    holder = python(HOLDER, url)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for read_only in (False, True):
            with pytest.raises(StoreError, match="held by another process") as caught:
                open_store(url, read_only=read_only)
            assert "\n" not in str(caught.value)
    finally:
        holder.kill()
        holder.wait()
    open_store(url).close()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "events.duckdb"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"duckdb://{path}")
    assert path.read_bytes().startswith(b"not a database")


def test_an_absent_file_is_not_created_for_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no event store at"):
        open_store(f"duckdb://{tmp_path}/none.duckdb", read_only=True)
    assert not (tmp_path / "none.duckdb").exists()
