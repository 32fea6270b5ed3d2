"""Traffic over real HTTP against a small service gives the truth that a direct rollout of the same ranking gives."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from core.errors import ConfigError
from core.events import Request, Slate
from core.scores import ScoreTable
from simulator import SessionEnv, World, rollout, traffic
from simulator.judge import interval

WORLD = World.make("default", seed=4, n_users=150, n_items=300, n_candidates=15)
QUALITY = WORLD.catalogue.quality


def _rank(body: dict[str, object]) -> dict[str, object]:
    """Bucket `good` ranks by quality, `bad` against it."""
    user, candidates, k = int(str(body["user_id"])), np.array(body["candidates"]), int(str(body["page_size"]))
    bucket = "good" if user % 2 else "bad"
    final = QUALITY[candidates] * (1 if bucket == "good" else -1)
    order = np.argsort(-final, kind="stable")[:k]
    return {"items": candidates[order].tolist(), "final": final[order].tolist(), "bucket": bucket}


@pytest.fixture
def service() -> Iterator[tuple[str, list[dict[str, object]]]]:
    received: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = _rank(body) if self.path == "/rank" else {"stored": len(body)}
            if self.path == "/feedback":
                received.extend(body)
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    server.server_close()
    thread.join()


def _post(url: str, body: object) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=10) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def _slate(request: Request, answer: dict[str, object]) -> Slate:
    items, final = np.array(answer["items"]), np.array(answer["final"], float)
    scores = ScoreTable(("quality",), final[:, None])
    return Slate(request.request_id, items, final, scores, "stub", {}, buckets={"ranking": str(answer["bucket"])})


def _body(request: Request) -> dict[str, object]:
    return {"user_id": request.user_id, "candidates": request.candidates.tolist(), "page_size": request.page_size}


def test_traffic_and_direct_rollout_agree(service: tuple[str, list[dict[str, object]]]) -> None:
    url, received = service
    sent = traffic(
        WORLD,
        lambda request: _slate(request, _post(url + "/rank", _body(request))),
        lambda rows: _post(url + "/feedback", rows),
        seed=6,
        n_days=2,
        users=np.arange(60),
        n_clients=8,
        layer="ranking",
    )
    direct = rollout(SessionEnv(WORLD, 8), seed=6, n_days=2, users=np.arange(60), recommend=lambda r: _slate(r, _rank(_body(r))))
    assert sent.n_failed == 0
    assert sent.n_feedback == len(received) == len({row["event_id"] for row in received})
    for bucket, odd in (("good", 1), ("bad", 0)):
        here, there = sent.log.take(sent.log["bucket"] == bucket), direct.take(direct["user_id"] % 2 == odd)
        assert len(here) == len(there), "the very same pages were shown"
        for task in ("click", "watch_s"):
            a, b = interval(here[task].astype(float)), interval(there[task].astype(float))
            assert a.low < b.mean < a.high
    good, bad = (sent.log.take(sent.log["bucket"] == b)["watch_s"].astype(float) for b in ("good", "bad"))
    assert interval(good).low > interval(bad).high, "the truth: quality is worth watching"


def test_failures_are_counted_and_their_users_come_back() -> None:
    calls = []

    def flaky(request: Request) -> Slate:
        calls.append(request)
        if len(calls) % 3 == 0:
            raise TimeoutError("slow")
        return _slate(request, _rank(_body(request)))

    sent = traffic(WORLD, flaky, lambda rows: None, seed=1, users=np.arange(20), n_clients=4)
    assert sent.n_failed == sent.errors["TimeoutError"] > 0
    assert len(sent.log) == (sent.n_requests - sent.n_failed) * WORLD.settings.page_size


def test_a_rate_is_kept_with_the_given_clock() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    sent = traffic(
        WORLD,
        lambda r: _slate(r, _rank(_body(r))),
        lambda rows: None,
        seed=1,
        users=np.arange(30),
        n_clients=5,
        rate=10.0,
        clock=lambda: now[0],
        sleep=sleep,
        max_requests=60,
    )
    assert 60 <= sent.n_requests < 66
    assert 8.0 < sent.rate < 12.5


def test_wrong_settings_say_so() -> None:
    with pytest.raises(ConfigError, match="rate"):
        traffic(WORLD, lambda r: _slate(r, {}), lambda rows: None, seed=1, rate=0.0)
