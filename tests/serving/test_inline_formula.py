"""A plan's bucket that holds its formula itself: checked when it is read, ranked by and explained over real HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn

from core.errors import ConfigError
from core.events import Request
from experiment.plan import Plan
from serving.api import make_app
from serving.loading import Loaded, load
from serving.service import Service
from serving.settings import Settings
from tests.serving import small
from tests.serving.fakes import MemoryWriter

INLINE = "formula: {text: 'w * log(click + 1e-3) - 0.5 * like * (hour > 12)', weights: {w: 2.0}, context: [hour]}"
PLAN = small.PLAN.replace("strategy: searched}", f"{INLINE}}}")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("inline")
    made = small.make(folder)
    (folder / "inline.yaml").write_text(PLAN)
    return replace(made, plan="inline.yaml")


@contextmanager
def served(loaded: Loaded) -> Iterator[httpx.Client]:
    """The service on a socket of this machine, without Ray."""
    app = make_app(Service(loaded.engine, MemoryWriter(), plan=loaded.plan), admin_token="")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60.0) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)


def test_a_treated_user_is_ranked_and_explained_by_the_plans_formula(settings: Settings) -> None:
    plan = Plan.from_yaml(PLAN, strategies=["hand_set", "searched"])
    assert plan.formulas == {
        "weights.treatment": {
            "text": "w * log(click + 1e-3) - 0.5 * like * (hour > 12)",
            "weights": {"w": 2.0},
            "context": ["hour"],
            "nonfinite": "error",
        }
    }
    treated = next(u for u in range(50) if plan.assign(str(u))["fusion"].bucket == "treatment")
    loaded, candidates = load(settings), list(range(40))
    table = loaded.engine.run(Request("r", str(treated), np.arange(40), context={"hour": 20})).table
    expected = 2.0 * np.log(table["click"] + 1e-3) - 0.5 * table["like"]
    with served(loaded) as client:
        shown = client.get("/v1/plan").json()
        assert shown["layers"][0]["experiments"][0]["buckets"][1]["formula"]["weights"] == {"w": 2.0}
        asked = {"user_id": str(treated), "candidates": candidates, "context": {"hour": 20}, "page_size": 40, "explain": True}
        answer = client.post("/v1/rank", json=asked).raise_for_status().json()
        assert answer["strategy"] == "weights.treatment"
        assert answer["degraded"] is None
        items = answer["items"]
        assert [i["item_id"] for i in items] == np.argsort(-expected, kind="stable").tolist()
        np.testing.assert_allclose([i["final"] for i in items], np.sort(expected)[::-1], rtol=1e-5)
        for item in items:
            assert sum(item["contributions"].values()) == pytest.approx(item["final"], rel=1e-5)
            assert set(item["contributions"]) == {"base", "click", "like"}
        without = {**asked, "context": {}}
        assert client.post("/v1/rank", json=without).json()["strategy"] == "hand_set"  # no hour: the default serves


@pytest.mark.parametrize(
    ("bucket", "says"),
    [
        ("strategy: searched, formula: {text: click}", "has a strategy and a formula; keep one"),
        ("formula: {text: ''}", "formula text '' must be a text"),
        ("formula: {text: click, weights: {w: .nan}}", "must map every parameter to a finite number"),
        ("formula: {text: click, floor: 1}", "unknown field 'floor'"),
        ("formula: {text: click, nonfinite: no}", "nonfinite False must be error or a finite number"),
    ],
)
def test_a_malformed_one_is_refused_with_the_plan(bucket: str, says: str) -> None:
    with pytest.raises(ConfigError, match="bucket 'treatment'") as error:
        Plan.from_yaml(small.PLAN.replace("strategy: searched", bucket), strategies=["hand_set", "searched"])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("{text: click + clik}", "position 9: unknown name 'clik'"),
        ("{text: w * click}", "position 1: unknown name 'w'"),
        ("{text: click, weights: {w: 1}}", "parameter 'w' is declared but not used"),
        ("{text: click.__class__}", "position 6: "),
    ],
)
def test_what_does_not_fit_the_ranker_is_refused_before_serving(settings: Settings, formula: str, says: str) -> None:
    plan = Path(settings.work_dir) / "wrong.yaml"
    plan.write_text(small.PLAN.replace("strategy: searched", f"formula: {formula}"))
    with pytest.raises(ConfigError, match=r"plan: bucket weights\.treatment: ") as error:
        load(replace(settings, plan="wrong.yaml"))
    assert says in str(error.value)
