"""The demo's plan is valid, its answers become slates, and its last line is the promised JSON object."""

import json
from typing import Any

from experiment.plan import Plan
from workflow.demo import plan, readout_table, summary
from workflow.demo_sources import Replayed, Simulated
from workflow.online import slate_of

REPORT: dict[str, Any] = {
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
    "verdicts": {"searched": {"decision": "ship", "reason": "better"}, "policy": {"decision": "wait", "reason": "unclear"}},
}
ROW: dict[str, Any] = REPORT["rows"][0]
THREE: dict[str, Any] = {
    **REPORT,
    "rows": [ROW, {**ROW, "bucket": "policy", "treatment": 0.07, "diff": 0.02}, {**ROW, "metric": "clicks", "treatment": 9.0}],
    "counts": {"hand_set": 100, "searched": 110, "policy": 90},
}


def test_the_plans_of_both_sources_are_valid() -> None:
    for source, buckets in ((Simulated, ["hand_set", "searched", "policy"]), (Replayed, ["hand_set", "searched"])):
        checked = Plan.from_json(json.dumps(plan(source.metrics, buckets)), strategies=buckets)
        assert list(checked.experiments) == ["fusion"]


def test_the_last_line_is_one_object_with_both_buckets() -> None:
    value = json.loads(summary(REPORT, 12.34))
    assert value["buckets"]["searched"] == {"n_units": 110, "metric": 0.06, "diff": 0.01, "diff_low": 0.002, "diff_high": 0.018}
    assert value["buckets"]["hand_set"]["metric"] == 0.05
    assert (value["srm_p"], value["seconds"]) == (0.49, 12.3)


def test_every_bucket_has_its_own_primary_metric_in_the_last_line() -> None:
    buckets = json.loads(summary(THREE, 1.0))["buckets"]
    assert [(name, b["n_units"], b["metric"], b["diff"]) for name, b in buckets.items()] == [
        ("hand_set", 100, 0.05, 0.0),
        ("searched", 110, 0.06, 0.01),
        ("policy", 90, 0.07, 0.02),
    ]


def test_the_table_says_the_interval_and_the_verdict() -> None:
    text = readout_table(REPORT)
    assert "+0.01 [+0.002, +0.018]" in text
    assert "verdict on searched: ship (better)" in text
    assert "verdict on policy: wait (unclear)" in text


def test_an_answer_becomes_a_slate() -> None:
    slate = slate_of({"request_id": "r", "items": [{"item_id": 5, "final": 0.5}], "strategy": "s", "buckets": {"fusion": "a"}})
    assert slate.items.tolist() == [5]
    assert slate.buckets == {"fusion": "a"}
    assert slate.degraded is None
