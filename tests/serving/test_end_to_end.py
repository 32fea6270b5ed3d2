"""Over real HTTP against the running service: what was acknowledged survives every kill, once; the readout is pandas' to 1e-9."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from serving.client import Client, ServiceError
from tests.serving import small
from tests.serving.running import Running, events


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(small.make(tmp_path_factory.mktemp("service")))
    try:
        yield running.start()
    finally:
        running.clean()


def patiently(call: Callable[[], Any], wait_s: float = 90.0) -> Any:
    """Repeat what a caller would repeat: refused connections, 429, 5xx of a service that is coming back."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return call()
        except (OSError, ServiceError) as error:
            status = error.status if isinstance(error, ServiceError) else 503
            if (status < 500 and status not in (404, 429)) or time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def page(url: str, user: int, request_id: str) -> dict[str, Any]:
    def once() -> dict[str, Any]:
        with Client(url, timeout_s=10) as client:
            return client.rank(user, list(range(100)), request_id=request_id)

    answer: dict[str, Any] = patiently(once)
    return answer


def tell(url: str, request_id: str, items: list[int]) -> list[str]:
    """Feedback until it is acknowledged; the ids that were."""

    def once() -> int:
        with Client(url, timeout_s=30) as client:
            return client.feedback(events(request_id, items))

    assert patiently(once) == len(items)
    return [event["event_id"] for event in events(request_id, items)]


def test_bad_input_is_refused_over_the_wire(service: Running) -> None:
    """Runs first: the next test kills and stops the service."""
    post = "POST /v1/rank HTTP/1.1\r\ncontent-type: application/json"
    large = 3_000_000
    chunks = b"".join(b"10000\r\n" + b"x" * 65_536 + b"\r\n" for _ in range(large // 65_536)) + b"0\r\n\r\n"
    empty = b'{"user_id": 1, "candidates": []}'
    cases = [
        (f"{post}\r\ncontent-length: 1", b"{", 400, "body"),
        (f"{post}\r\ncontent-length: {len(empty)}", empty, 422, "candidates"),
        (f"{post}\r\ncontent-length: {large}", b"x" * large, 413, "body"),
        (f"{post}\r\ntransfer-encoding: chunked", chunks, 413, "body"),
        ("GET /nowhere HTTP/1.1", b"", 404, "path"),
        ("POST /v1/flush HTTP/1.1\r\ncontent-length: 0", b"", 401, "authorization"),
    ]
    for head, body, status, field in cases:
        answer = _over_the_wire(service, head, body)
        assert (answer[0], answer[1]["field"]) == (status, field)
    with Client(service.url) as client:
        with pytest.raises(ServiceError, match="no experiment 'none'"):
            client.readout("none")
        text = client.call("GET", "/metrics")["detail"]
        assert 'scorefusion_requests_total{route="/v1/rank",status="422"} 1' in text
        assert "weights" in client.call("GET", "/")["detail"]


def test_a_new_release_is_taken_without_a_failed_or_degraded_request(service: Running) -> None:
    small.make(service.folder)  # publishes version 2 of the ranker and of both strategies
    versions: list[str] = []
    with Client(service.url) as client:
        client.call("POST", "/v1/reload", headers={"authorization": "Bearer test-token"})
        deadline = time.monotonic() + 60
        while versions[-1:] != ["ranker/small/v2"]:
            assert time.monotonic() < deadline
            answer = client.rank(1, list(range(50)))
            assert answer["degraded"] is None
            versions.append(answer["versions"]["ranker"])
    assert versions == sorted(versions)
    assert versions[0] == "ranker/small/v1"


def test_what_was_acknowledged_survives_every_kill_exactly_once(service: Running) -> None:
    acknowledged: list[str] = []
    shown: list[str] = []

    def traffic(name: str) -> None:
        for user in range(10):
            request_id = f"{name}-{user}"
            answer = page(service.url, user, request_id)
            shown.append(request_id)
            items = [item["item_id"] for item in answer["items"][: 3 + user % 4]]
            acknowledged.extend(tell(service.url, request_id, items))
            tell(service.url, request_id, items)  # the same events again: a client's retry

    traffic("start")
    time.sleep(0.5)
    (replica,) = service.pids("Ranking")
    service.kill(replica)
    traffic("replica-killed")
    (writer,) = service.pids("Events")
    service.kill(writer)
    traffic("writer-killed")
    time.sleep(0.5)
    service.kill_driver()
    assert service.gone() == []
    service.start()
    traffic("driver-killed")

    with Client(service.url) as client:
        readout = client.readout("weights")
    assert service.stop() == 0, service.log()
    assert service.gone() == []

    with duckdb.connect(str(Path(service.folder) / "events.duckdb"), read_only=True) as store:
        feedback = store.execute("SELECT * FROM feedback").df()
        exposures = store.execute("SELECT * FROM exposures").df()
        assignments = store.execute("SELECT * FROM assignments").df()
    assert sorted(feedback["event_id"]) == sorted(acknowledged)
    ours = exposures[exposures["request_id"].isin(shown)]  # the pages of the reload are there too
    assert set(ours["request_id"]) == set(shown)
    assert not exposures.duplicated(["request_id", "item_id"]).any()
    assert len(ours) == 10 * len(shown)
    _check_readout(readout, exposures, feedback, assignments)


def test_a_service_told_to_stop_while_it_starts_stops_cleanly(tmp_path: Path) -> None:
    running = Running(small.make(tmp_path))
    try:
        driver = running.launch()
        deadline = time.monotonic() + 120
        while "Started Serve" not in running.log():  # ray is up and has put its own signal handlers; replicas are not
            assert driver.poll() is None, running.log()
            assert time.monotonic() < deadline, running.log()
            time.sleep(0.05)
        assert running.stop() == 0, running.log()
        assert "ready" not in running.log()
        assert running.gone() == []
    finally:
        running.clean()


def _check_readout(readout: dict[str, Any], exposures: pd.DataFrame, feedback: pd.DataFrame, assignments: pd.DataFrame) -> None:
    """The same numbers, by pandas from the raw tables."""
    bucket = assignments.drop_duplicates("unit").set_index("unit")["bucket"]
    user_of = exposures.drop_duplicates("request_id").set_index("request_id")["user_id"]
    clicks = feedback.groupby(feedback["request_id"].map(user_of))["value"].sum()
    seen = exposures.groupby("user_id").size()
    units = pd.DataFrame({"bucket": bucket, "clicks": clicks, "seen": seen}).fillna({"clicks": 0.0})
    by = units.groupby("bucket")
    mean = by["clicks"].mean()
    ctr = by["clicks"].sum() / by["seen"].sum()
    rows = {row["metric"]: row for row in readout["rows"]}
    assert readout["counts"] == by.size().to_dict()
    for name, expected in (("clicks_per_user", mean), ("ctr", ctr)):
        assert rows[name]["control"] == pytest.approx(expected["control"], abs=1e-9)
        assert rows[name]["treatment"] == pytest.approx(expected["treatment"], abs=1e-9)
        assert rows[name]["diff"] == pytest.approx(expected["treatment"] - expected["control"], abs=1e-9)


def _over_the_wire(service: Running, head: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Bytes as they are, through the proxy."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as wire:
        wire.sendall(f"{head}\r\nhost: test\r\nconnection: close\r\n\r\n".encode() + body)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # a refused body need not be read to its end
            while part := wire.recv(65_536):
                answer += part
    top, _, content = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(content)
