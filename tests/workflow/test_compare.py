"""`scorefusion compare` and `scorefusion plan`: what they print, and one clear line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from experiment.plan import Plan
from experiment.store import open_store
from workflow.cli import main

PLAN = {
    "version": 1,
    "default_strategy": "hand_set",
    "attributes": {"country": "text"},
    "metrics": [{"name": "likes", "task": "like"}, {"name": "ctr", "kind": "ratio", "numerator": "click"}],
    "layers": [
        {
            "name": "fusion",
            "experiments": [
                {
                    "name": "searched",
                    "coverage": 0.5,
                    "buckets": [
                        {"name": "a", "weight": 0.5, "strategy": "hand_set"},
                        {"name": "b", "weight": 0.5, "strategy": "searched"},
                    ],
                }
            ],
        }
    ],
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(PLAN))
    return path


@pytest.fixture
def events(tmp_path: Path, plan: Path) -> str:
    """400 users, one request each, those of bucket b like more."""
    url = f"duckdb://{tmp_path}/events.duckdb"
    n = 400
    users = np.array([f"u{i}" for i in range(n)], object)
    bucket = Plan.from_yaml(plan).assign_many(users)["fusion"].bucket_names()
    keep = np.flatnonzero(bucket != np.array(None))
    users, bucket, ids = users[keep], bucket[keep], np.array([f"r{i}" for i in keep], object)
    rng = np.random.default_rng(0)
    liked = np.flatnonzero(rng.random(len(keep)) < np.where(bucket == "b", 0.9, 0.1))
    times = keep * 1_000_000
    base = {"request_id": ids, "time_ms": times}
    names = {"layer": pa.repeat("fusion", len(keep)), "experiment": pa.repeat("searched", len(keep))}
    answers = {"event_id": ids[liked], "request_id": ids[liked], "time_ms": times[liked], "item_id": np.ones(len(liked), int)}
    store = open_store(url)
    store.append(
        requests=pa.table({**base, "user_id": users}),
        assignments=pa.table({**base, **names, "bucket": bucket, "unit": users, "forced": np.zeros(len(keep), bool)}),
        exposures=pa.table({**base, "user_id": users, "item_id": np.ones(len(keep), int)}),
        feedback=pa.table({**answers, "task": pa.repeat("like", len(liked)), "value": np.ones(len(liked))}),
    )
    store.close()
    return url


def test_compare_prints_a_table_and_a_verdict(events: str, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--store", events, "--plan", str(plan)]) == 0
    out = capsys.readouterr().out
    assert "likes" in out
    assert out.splitlines()[-1].endswith("b: ship")


def test_compare_by_scenario(events: str, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--store", events, "--plan", str(plan), "--by", "scenario"]) == 0
    assert "a question, not an answer" in capsys.readouterr().out


def test_compare_prints_json(events: str, plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "--store", events, "--plan", str(plan), "--experiment", "searched", "--json"]
    assert main([*arguments, "--by", "days", "--out", str(tmp_path / "readout.json")]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["verdict"]["decision"] == "ship"
    assert value["rows"][0]["metric"] == "likes"
    assert value["by"]["rows"][0]["part"] == "day 1"
    assert json.loads((tmp_path / "readout.json").read_text()) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--store": "duckdb:///nowhere/events.duckdb"}, "no event store at '/nowhere/events.duckdb'"),
        ({"--experiment": "nope"}, "the plan has no experiment 'nope'; it has searched"),
        ({"--control": "c"}, "no bucket 'c'"),
        ({"--plan": "none.yaml"}, "plan file 'none.yaml' cannot be read"),
    ],
)
def test_a_mistake_is_one_line(
    events: str, plan: Path, change: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--store": events, "--plan": str(plan), **change}
    assert main(["compare", *(part for option in options.items() for part in option)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_plan_check_show_and_diff(plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "check", str(plan), "--strategies", "hand_set,searched"]) == 0
    assert "is sound: 1 layers, 1 experiments, 2 metrics" in capsys.readouterr().out
    assert main(["plan", "show", str(plan)]) == 0
    assert "0.2500" in capsys.readouterr().out
    assert main(["plan", "show", str(plan), "--unit", "u0", "--attributes", "{country: DE}"]) == 0
    assert "user u0: " in capsys.readouterr().out
    ramp = tmp_path / "ramp.yaml"
    text = plan.read_text()
    ramp.write_text(text.replace("coverage: 0.5", "coverage: 1.0"))
    assert main(["plan", "diff", str(plan), str(ramp)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 changes; no assigned unit moves"


def test_a_broken_plan_is_one_line(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "check", str(plan), "--strategies", "hand_set"]) == 2
    error = capsys.readouterr().err
    assert "unknown strategy 'searched'; strategies are hand_set" in error
    assert error.count("\n") == 1


def test_estimates_of_buckets_that_never_ran_stand_beside_the_rows(
    plan: Path, events: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"policy": "next", "estimator": "fqe", "status": "ok", "value": 2.5, "low": 2.0, "high": 3.0, "effective": 80.0}
    refused = {**row, "estimator": "pdis", "status": "too_little_overlap", "value": None, "low": None, "high": None}
    path = tmp_path / "ope.json"
    path.write_text(json.dumps({"source": "the store", "logged": {**row, "policy": "logged"}, "estimates": [row, refused]}))
    assert main(["compare", "--store", events, "--plan", str(plan), "--reuse", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:4] == ["next", "fqe", "ok", "2.5000"] for line in lines)
    assert any(line.split()[:4] == ["next", "pdis", "too_little_overlap", "-"] for line in lines)
    assert main(["compare", "--store", events, "--plan", str(plan), "--reuse", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reuse"]["estimates"][0]["value"] == 2.5
    path.write_text("{}")
    assert main(["compare", "--store", events, "--plan", str(plan), "--reuse", str(path)]) == 2
    assert "is no ope.json" in capsys.readouterr().err
