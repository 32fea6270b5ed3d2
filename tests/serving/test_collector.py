"""The collector: living replicas count whole, dead ones by their counters, and a drain waits for the living only."""

from typing import Any

from serving.collector import GONE_S, KEPT, Collector


def snapshot(n: int) -> dict[str, Any]:
    return {"counters": [["ranked_total", [], n], ["outbox_requests", [], n]], "histograms": []}


def test_a_dead_replicas_gauges_go_and_its_counters_stay() -> None:
    now = [0.0]
    collector = Collector(clock=lambda: now[0])
    collector.report("a", snapshot(5), drained=False)
    now[0] = GONE_S + 1
    answer = collector.report("b", snapshot(7), drained=False)
    names = [[entry[0] for entry in s["counters"]] for s in answer["snapshots"]]
    assert names == [["ranked_total"], ["ranked_total", "outbox_requests"]]


def test_draining_is_told_and_waits_for_every_living_replica() -> None:
    now = [0.0]
    collector = Collector(clock=lambda: now[0])
    collector.report("dead", snapshot(1), drained=False)
    now[0] = GONE_S + 1
    collector.draining = True
    assert collector.report("a", snapshot(1), drained=False)["draining"]
    assert not collector.drained()
    collector.report("a", snapshot(1), drained=True)
    assert collector.drained()


def test_memory_is_bounded() -> None:
    collector = Collector(clock=iter(range(10_000)).__next__)
    for i in range(3 * KEPT):
        collector.report(str(i), snapshot(1), drained=False)
    assert len(collector.snapshots()) == KEPT
