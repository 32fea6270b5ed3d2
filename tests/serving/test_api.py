"""The HTTP API without a server: every route's good answer, and every refusal as problem+json with its field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.events import Request
from serving import bodies
from serving.api import make_app
from serving.asgi import App
from serving.bodies import ARROW, Limits
from serving.engine import Engine
from serving.openapi import document
from serving.problem import PROBLEM_TYPE
from serving.service import Service
from tests.serving.fakes import READOUT, Entry, MemoryWriter, release


class Plan:
    """One experiment of every user."""

    experiments = ["weights"]  # noqa: RUF012  # a test's own class

    def to_json(self) -> Mapping[str, Any]:
        return {"version": 1}

    def assignments(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"fusion": {"bucket": f"of {attributes['user_id']}"}}


def make(writer: MemoryWriter | None = None, token: str = "") -> tuple[App, MemoryWriter]:
    def assign(request: Request) -> dict[str, Entry]:
        return {"fusion": Entry("weights", "treatment", "by_like", request.user_id)}

    memory = writer or MemoryWriter()
    limits = Limits(body_bytes_max=2_000, candidates_max=5)
    service = Service(Engine(release(), assign=assign), memory, plan=Plan(), limits=limits, feedback_timeout_s=0.2)
    return make_app(service, admin_token=token), memory


class Answered:
    def __init__(self, messages: list[Any]) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(m.get("body", b"") for m in messages[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(app: App, method: str, path: str, body: Any = b"", chunks: list[bytes] | None = None, **headers: str) -> Answered:
    """One request over ASGI; `chunks` stream in one message each."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    parts = chunks if chunks is not None else [content]
    sent: list[Any] = []

    async def receive() -> Any:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    scope["headers"] = [(k.encode(), v.encode()) for k, v in named.items()]
    asyncio.run(app(scope, receive, send))
    return Answered(sent)


RANK = {"user_id": 7, "candidates": [5, 900, 30], "page_size": 2}
EVENT = {"event_id": "e", "request_id": "r", "item_id": 5, "task": "click"}


def test_a_page_says_what_it_was_made_with() -> None:
    app, _ = make()
    answer = call(app, "POST", "/v1/rank", RANK | {"request_id": "r1"})
    assert answer.status == 200
    assert [item["item_id"] for item in answer.json["items"]] == [5, 30]
    assert [item["position"] for item in answer.json["items"]] == [1, 2]
    about = {name: answer.json[name] for name in ("request_id", "strategy", "buckets", "degraded")}
    assert about == {"request_id": "r1", "strategy": "by_like", "buckets": {"fusion": "treatment"}, "degraded": None}


def test_an_explanation_comes_with_each_item() -> None:
    answer = call(make()[0], "POST", "/v1/rank", RANK | {"explain": True})
    assert answer.json["items"][0]["contributions"] == {"like": pytest.approx(0.995)}


def test_arrow_in_is_arrow_out() -> None:
    table = pa.table({"item_id": [5, 900], "score": [0.1, 0.9]}).replace_schema_metadata({"request": b'{"user_id": "u"}'})
    answer = call(make()[0], "POST", "/v1/rank", bodies.write_arrow(table), content_type=ARROW)
    assert answer.headers["content-type"] == ARROW
    page = bodies.read_arrow(answer.body)
    assert page.column("item_id").to_pylist() == [5, 900]
    assert json.loads(page.schema.metadata[b"answer"])["strategy"] == "by_like"


def test_feedback_is_counted_after_its_commit() -> None:
    app, writer = make()
    answer = call(app, "POST", "/v1/feedback", {"events": [EVENT, EVENT | {"event_id": "f"}]})
    assert (answer.status, answer.json) == (200, {"accepted": 2})
    assert [row["event_id"] for row in writer.rows("feedback")] == ["e", "f"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "body"),
        ({**RANK, "candidates": []}, 422, "candidates"),
        ({**RANK, "candidates": list(range(6))}, 422, "candidates"),
        ({**RANK, "features": {"score": [1.0, None, 2.0]}}, 422, "features.score"),
        ({**RANK, "user_id": None}, 422, "user_id"),
        ({**RANK, "request_id": "x" * 3_000}, 413, "body"),
    ],
)
def test_a_refusal_names_field_and_rule_and_writes_nothing(body: Any, status: int, field: str) -> None:
    app, writer = make()
    answer = call(app, "POST", "/v1/rank", body)
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM_TYPE)
    assert (answer.json["status"], answer.json["field"]) == (status, field)
    assert answer.json["detail"]
    assert writer.tables == []


def test_a_body_is_refused_by_its_declared_and_by_its_streamed_length() -> None:
    app, _ = make()
    declared = call(app, "POST", "/v1/rank", b"", content_length="99999999")
    streamed = call(app, "POST", "/v1/rank", chunks=[b"x" * 900] * 50)
    lying = call(app, "POST", "/v1/rank", chunks=[b"x" * 900] * 50, content_length="10")
    assert [a.status for a in (declared, streamed, lying)] == [413, 413, 413]


def test_other_paths_methods_and_types_are_refused() -> None:
    app, _ = make()
    assert call(app, "GET", "/nowhere").status == 404
    wrong = call(app, "DELETE", "/v1/rank")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert call(app, "POST", "/v1/rank", RANK, content_type="text/html").status == 415
    assert call(app, "GET", "/v1/assignments").status == 422
    unknown = call(app, "GET", "/v1/experiments/none/readout")
    assert (unknown.status, unknown.json["detail"]) == (404, "no experiment 'none' in the plan; experiments: weights")
    assert call(app, "GET", "/static/..%2fasgi.py").status == 404
    assert call(app, "GET", "/experiments/").status == 404


def test_the_rest_of_the_api_answers() -> None:
    app, _ = make()
    assert call(app, "GET", "/healthz").json == {"status": "ok"}
    assert call(app, "GET", "/readyz").json["status"] == "ready"
    assert call(app, "GET", "/v1/assignments?user_id=7").json == {"fusion": {"bucket": "of 7"}}
    assert call(app, "GET", "/v1/plan").json == {"version": 1}
    assert call(app, "GET", "/v1/models").json["tasks"] == ["click", "like"]
    assert call(app, "GET", "/v1/experiments/weights/readout").json["rows"] == READOUT["rows"]
    call(app, "POST", "/v1/rank", RANK)
    text = call(app, "GET", "/metrics").body.decode()
    assert 'scorefusion_ranked_total{experiment="weights",bucket="treatment",strategy="by_like"} 1' in text
    assert call(app, "HEAD", "/healthz").body == b""


def test_a_dead_event_store_stops_feedback_but_not_ranking_or_pages() -> None:
    app, _ = make(MemoryWriter(away=ConnectionError()))
    assert call(app, "POST", "/v1/rank", RANK).status == 200
    feedback = call(app, "POST", "/v1/feedback", EVENT)
    assert (feedback.status, feedback.headers["retry-after"]) == (503, "1")
    assert call(app, "GET", "/v1/experiments/weights/readout").status == 503
    home = call(app, "GET", "/")
    assert home.status == 200
    assert "event store does not answer" in home.body.decode()
    assert call(app, "GET", "/metrics").status == 200


def test_admin_calls_need_the_token_and_are_off_without_one() -> None:
    assert call(make()[0], "POST", "/v1/flush").status == 403
    app, _ = make(token="s3cret")
    missing = call(app, "POST", "/v1/flush")
    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert call(app, "POST", "/v1/flush", authorization="Bearer s3cre").status == 401
    assert call(app, "POST", "/v1/flush", authorization="Bearer s3cret").status == 200


def test_every_route_of_the_api_is_described() -> None:
    app, _ = make()
    described = {(m.upper(), path) for path, methods in document(Limits())["paths"].items() for m in methods}
    routed = {(m, path) for path, methods in app._exact.items() for m in methods if path.startswith("/v1")}
    routed |= {(m, path) for _, path, methods in app._patterns for m in methods if path.startswith("/v1")}
    assert routed <= described
    assert call(app, "GET", "/openapi.json").json["openapi"] == "3.1.0"


def test_a_page_of_nan_finals_is_still_json() -> None:
    app, _ = make()
    answer = call(app, "POST", "/v1/rank", RANK | {"candidates": [5, 2**40]})
    assert np.isfinite([item["final"] for item in answer.json["items"]]).all()


def test_a_reload_is_asked_of_every_replica() -> None:
    app, writer = make(token="s3cret")
    assert call(app, "POST", "/v1/reload").status == 401
    answer = call(app, "POST", "/v1/reload", authorization="Bearer s3cret")
    assert (answer.status, answer.json) == (202, {"asked_ms": writer.reload_ms})
