"""The demo's plan is valid, its answers become slates, and its last line is the promised JSON object."""

import json

from experiment.plan import Plan
from workflow.demo import plan, readout_table, summary
from workflow.demo_sources import Replayed, Simulated
from workflow.online import slate_of

REPORT = {
    "rows": [
        {
            "metric": "likes_per_impression",
            "bucket": "searched",
            "control": 0.05,
            "treatment": 0.06,
            "diff": 0.01,
            "diff_low": 0.002,
            "diff_high": 0.018,
            "p_value": 0.02,
            "status": "ok",
        }
    ],
    "counts": {"hand_set": 100, "searched": 110},
    "srm_p": 0.49,
    "verdict": {"decision": "ship", "reason": "better"},
}


def test_the_plans_of_both_sources_are_valid() -> None:
    for source in (Simulated, Replayed):
        checked = Plan.from_json(json.dumps(plan(source.metrics)), strategies=["hand_set", "searched"])
        assert list(checked.experiments) == ["formula"]


def test_the_last_line_is_one_object_with_both_buckets() -> None:
    value = json.loads(summary(REPORT, 12.34))
    assert value["buckets"]["searched"] == {"n_units": 110, "metric": 0.06, "diff": 0.01, "diff_low": 0.002, "diff_high": 0.018}
    assert value["buckets"]["hand_set"]["metric"] == 0.05
    assert (value["srm_p"], value["seconds"]) == (0.49, 12.3)


def test_the_table_says_the_interval_and_the_verdict() -> None:
    text = readout_table(REPORT)
    assert "+0.01 [+0.002, +0.018]" in text
    assert "verdict: ship (better)" in text


def test_an_answer_becomes_a_slate() -> None:
    slate = slate_of({"request_id": "r", "items": [{"item_id": 5, "final": 0.5}], "strategy": "s", "buckets": {"fusion": "a"}})
    assert slate.items.tolist() == [5]
    assert slate.buckets == {"fusion": "a"}
    assert slate.degraded is None
