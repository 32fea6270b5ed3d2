"""The outbox: columns that say exactly what was shown, bounded, with its losses counted."""

from dataclasses import replace

import numpy as np

from core.events import ASSIGNMENT_SCHEMA, EXPOSURE_SCHEMA, REQUEST_SCHEMA, Decision, Request
from serving.engine import Engine
from serving.outbox import Outbox
from tests.serving.fakes import By, Entry, release


def engine(decision: Decision | None = None) -> Engine:
    made = release(explore=By("like"))
    made.strategies["explore"].decision = decision  # type: ignore[attr-defined]  # the fake's field
    return Engine(
        made, assign=lambda r: {"layer": Entry("x", "b", "explore", r.user_id, forced=r.user_id == "qa")}, plan_version=3
    )


def decision(component: str) -> Decision:
    """A policy's decision, by its component."""
    state, action = np.array([1.0, 2.0], np.float32), np.array([0.5], np.float32)
    return Decision(state, action, action * np.float32(0.5), component, 2.5 if component else float("nan"))


def ask(request_id: str, *ids: int, user: str = "u") -> Request:
    return Request(request_id, user, np.array(ids), "home", page_size=2, time_ms=17)


def test_what_was_shown_becomes_rows_of_the_cores_schemas() -> None:
    outbox = Outbox(10, 0.0, lambda: 0.5)
    outbox.add(engine().run(ask("r1", 900, 5, 30)))
    outbox.add(engine().run(ask("r2", 7, user="qa")))
    batch = outbox.drain()
    assert batch is not None
    assert batch.requests.schema == REQUEST_SCHEMA
    assert batch.assignments.schema == ASSIGNMENT_SCHEMA
    assert batch.exposures.schema == EXPOSURE_SCHEMA
    shown = batch.exposures.to_pylist()
    assert [(e["request_id"], e["item_id"], e["position"]) for e in shown] == [("r1", 5, 1), ("r1", 30, 2), ("r2", 7, 1)]
    assert np.allclose(shown[1]["scores"], [0.03, 0.97])
    assert np.isclose(shown[1]["final"], 0.97)
    first = batch.requests.to_pylist()[0]
    about = ("request_id", "user_id", "scenario", "n_candidates", "strategy", "tasks", "weight_names", "candidates")
    assert [first[name] for name in about] == ["r1", "u", "home", 3, "explore", ["click", "like"], ["w"], None]
    assigned = batch.assignments.to_pylist()
    assert [(a["unit"], a["bucket"], a["forced"], a["plan_version"]) for a in assigned] == [
        ("u", "b", False, 3),
        ("qa", "b", True, 3),
    ]
    assert outbox.drain() is None


def test_every_candidate_is_logged_for_a_share_and_wherever_a_bucket_explores() -> None:
    plain, explores = decision(component=""), decision(component="near")
    for share, decided, logged in ((0.0, None, False), (0.6, None, True), (0.0, explores, True), (0.0, plain, False)):
        outbox = Outbox(10, share, lambda: 0.5)
        outbox.add(engine(decided).run(ask("r1", 900, 5, 30)))
        batch = outbox.drain()
        assert batch is not None
        (row,) = batch.requests.to_pylist()
        assert (row["candidates"] is not None) == logged
        if logged:
            assert np.frombuffer(row["candidates"], np.int64).tolist() == [900, 5, 30]
            scores = np.frombuffer(row["candidate_scores"], np.float16).reshape(3, 2)
            assert np.allclose(scores[:, 0], [0.9, 0.005, 0.03], atol=1e-3)


def test_what_a_policy_decided_is_logged_with_the_callers_session() -> None:
    outbox = Outbox(10, 0.0, lambda: 0.5)
    outbox.add(engine(decision("near")).run(replace(ask("r1", 1, 2), context={"session": 7, "step": 3})))
    outbox.add(engine().run(replace(ask("r2", 1, 2), context={"step": "many"})))
    batch = outbox.drain()
    assert batch is not None
    names = ("session", "step", "state", "action", "baseline", "component", "component_density", "box")
    first, second = ([row[name] for name in names] for row in batch.requests.to_pylist())
    assert first == ["7", 3, [1.0, 2.0], [0.5], [0.25], "near", 2.5, None]
    assert second == [None] * 8


def test_a_full_outbox_drops_and_counts_exposures_by_bucket() -> None:
    outbox = Outbox(1, 0.0, lambda: 0.5)
    for request_id in ("r1", "r2", "r3"):
        outbox.add(engine().run(ask(request_id, 1, 2, 3)))
    assert len(outbox) == 1
    assert dict(outbox.lost) == {"x/b": 4}


def test_pages_without_any_score_are_logged_too() -> None:
    broken = engine()
    broken.release.ranker.broken = RuntimeError()  # type: ignore[attr-defined]  # the fake's switch
    outbox = Outbox(5, 1.0, lambda: 0.5)
    outbox.add(broken.run(ask("r1", 1, 2)))
    outbox.add(engine().run(ask("r2", 1, 2)))
    batch = outbox.drain()
    assert batch is not None
    assert [len(e["scores"]) for e in batch.exposures.to_pylist()] == [0, 0, 2, 2]
    assert batch.requests.column("degraded").to_pylist() == ["ranker:RuntimeError", None]


def test_the_oldest_leave_first_and_in_parts() -> None:
    outbox = Outbox(10, 0.0, lambda: 0.5)
    for i in range(5):
        outbox.add(engine().run(ask(f"r{i}", 1)))
    parts = [outbox.drain(2), outbox.drain(2), outbox.drain(2), outbox.drain(2)]
    assert [part and part.requests.column("request_id").to_pylist() for part in parts] == [
        ["r0", "r1"],
        ["r2", "r3"],
        ["r4"],
        None,
    ]
