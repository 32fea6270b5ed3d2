"""Every event store keeps its contracts, and a store that breaks one is caught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from core.errors import StoreError
from core.events import REQUEST_SCHEMA
from experiment.checks import (
    STORE_CHECKS,
    check_bad_rows_change_nothing,
    check_feedback_is_kept_once,
    check_retired_rows_are_exported,
    feedback_rows,
    impression_rows,
)
from experiment.plan import Plan
from experiment.readout import readout
from experiment.store import Appended, EventStore, open_store
from experiment.store.duckdb import DuckDBStore
from experiment.store.migrate import VERSION

Opener = Callable[[], EventStore]


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
def test_store_keeps(check: Callable[[Opener], None], open_again: Opener) -> None:
    check(open_again)


def test_store_exports_what_it_retires(open_again: Opener, tmp_path: Path) -> None:
    check_retired_rows_are_exported(open_again, tmp_path / "export")


def test_both_stores_give_the_same_readout(open_again: Opener, plan: Plan, world: Callable[..., dict[str, pa.Table]]) -> None:
    tables = world(plan, n_users=200)
    store, reference = open_again(), open_store("duckdb://:memory:")
    for one in (store, reference):
        one.append(**tables)
    experiment = plan.experiment("searched")
    rows = readout(store, experiment, plan.metrics).rows, readout(reference, experiment, plan.metrics).rows
    store.close()
    reference.close()
    for a, b in zip(*rows, strict=True):
        assert (a.metric, a.n_control, a.status) == (b.metric, b.n_control, b.status)
        assert (a.diff, a.se) == pytest.approx((b.diff, b.se), abs=1e-12)


class Forgetful(DuckDBStore):
    """Does not look for what is stored."""

    def append(self, **tables: pa.Table | None) -> Appended:
        for known in self._known.values():
            known.__init__()  # type: ignore[misc]  # broken on purpose
        return super().append(**tables)


class Halfway(DuckDBStore):
    """Writes table by table."""

    def append(self, **tables: pa.Table | None) -> Appended:
        done = Appended()
        for name, rows in tables.items():
            done = super().append(**{name: rows})
        return done


@pytest.mark.parametrize(
    ("broken", "check"), [(Forgetful, check_feedback_is_kept_once), (Halfway, check_bad_rows_change_nothing)]
)
def test_a_broken_store_is_caught(broken: type[DuckDBStore], check: Callable[[Opener], None], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(lambda: broken(str(tmp_path / "events.duckdb")))


def test_unknown_url_is_one_clear_error() -> None:
    with pytest.raises(StoreError, match="use duckdb:///path"):
        open_store("mysql://localhost")


def test_a_store_from_the_future_is_refused(open_again: Opener) -> None:
    store = open_again()
    url = store.url
    store.close()
    if url.startswith("postgresql"):
        pytest.skip("the same code; checked on the file")
    raw = DuckDBStore(url.removeprefix("duckdb://"))
    raw._db.execute(f"UPDATE schema_version SET version = {VERSION + 1}")
    raw.close()
    with pytest.raises(StoreError, match="upgrade scorefusion"):
        open_again()


def test_an_older_store_is_brought_forward(tmp_path: Path) -> None:
    store = DuckDBStore(str(tmp_path / "events.duckdb"))
    store.append(**impression_rows(["r1"]), feedback=feedback_rows(["a"]))
    store._db.execute("UPDATE schema_version SET version = 1")
    for name in ("session", "step", "state", "action", "baseline", "component", "component_density", "box"):
        store._db.execute(f"ALTER TABLE requests DROP COLUMN {name}")
    store.close()
    with pytest.raises(StoreError, match="open it once for writing"):
        open_store(f"duckdb://{tmp_path}/events.duckdb", read_only=True)
    again = open_store(f"duckdb://{tmp_path}/events.duckdb")
    assert again.select("SELECT version FROM schema_version")["version"].tolist() == [VERSION]
    assert again.append(feedback=feedback_rows(["a"])).new["feedback"] == 0
    new = {**impression_rows(["r2"]), "requests": decided_row("r2")}
    again.append(**new)
    rows = again.arrow("SELECT * FROM requests ORDER BY request_id").to_pylist()
    assert [(row["request_id"], row["state"], row["component"]) for row in rows] == [
        ("r1", None, None),
        ("r2", [0.5, 1.5], "near"),
    ]
    again.close()


def test_a_policy_s_decision_comes_back_as_it_was(open_again: Opener) -> None:
    store = open_again()
    store.append(requests=decided_row("r9"))
    (row,) = store.arrow("SELECT * FROM requests").to_pylist()
    wanted = decided_row("r9").to_pylist()[0]
    assert {name: row[name] for name in wanted} == wanted
    store.close()


def decided_row(request_id: str) -> pa.Table:
    """A request that a policy answered."""
    values = {
        "request_id": request_id, "time_ms": 5, "user_id": "u", "session": "s1", "step": 4, "state": [0.5, 1.5], "action": [0.25],
        "baseline": [-0.5], "component": "near", "component_density": 2.5, "box": None, "propensity": 1.25,
        "candidates": np.arange(3).tobytes(), "candidate_scores": np.arange(3, dtype=np.float16).tobytes(),
    }  # fmt: skip
    kinds = [REQUEST_SCHEMA.field(name) for name in values]
    return pa.table({name: [value] for name, value in values.items()}, schema=pa.schema(kinds))
