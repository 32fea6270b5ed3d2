"""The joined log has one row an impression, with the scores, weights and labels that belong to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from experiment.checks import impression_rows
from experiment.store import EventStore


def answers(rows: list[tuple[str, str, int, str, float]]) -> pa.Table:
    names = ("event_id", "request_id", "item_id", "task", "value")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return pa.table({**columns, "time_ms": [0] * len(rows)})


def test_log_joins_by_request_and_item(open_again: Callable[[], EventStore]) -> None:
    store = open_again()
    rows = impression_rows(["r0", "r1"])
    rows["requests"] = rows["requests"].append_column("weight_names", pa.array([["click", "like"]] * 2))
    feedback = answers([("a", "r1", 2, "click", 1.0), ("b", "r1", 2, "watch_s", 3.5), ("c", "r1", 2, "watch_s", 9.0)])
    store.append(**rows, feedback=feedback)
    log = store.log(experiment="searched")
    assert log["request_id"].tolist() == ["r0"] * 3 + ["r1"] * 3
    assert log["click"].tolist() == [0, 0, 0, 0, 0, 1]
    assert log["watch_s"].tolist() == [0, 0, 0, 0, 0, 9]
    assert log["score_like"].tolist() == [0.5] * 6
    assert log["weight_like"].tolist() == [1.5] * 6
    assert log["bucket"].tolist() == ["a"] * 3 + ["b"] * 3
    assert len(store.log(since_ms=1)) == 3
    assert len(store.log(until_ms=0)) == 0
    assert "click" not in store.log(tasks=["like"])
    store.close()


def test_requests_with_other_tasks_leave_nan(store: EventStore) -> None:
    first, second = impression_rows(["r0"]), impression_rows(["r1"])
    second["requests"] = second["requests"].set_column(3, "tasks", pa.array([["click", "share"]]))
    store.append(**first)
    store.append(**second)
    log = store.log()
    assert np.isnan(log["score_share"]).tolist() == [True] * 3 + [False] * 3
    assert np.isnan(log["score_like"]).tolist() == [False] * 3 + [True] * 3
