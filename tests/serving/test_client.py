"""The client: answers, refusals with their problem, and a connection that went idle is opened again."""

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from serving.api import make_app
from serving.client import Client, ServiceError
from serving.engine import Engine
from serving.service import Service
from tests.serving.fakes import READOUT, MemoryWriter, release
from tests.serving.running import events, free_port
from tests.serving.test_api import Plan


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    service = Service(Engine(release()), MemoryWriter(), plan=Plan())
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_app(service), port=port, log_level="error", timeout_keep_alive=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def test_a_round_trip(url: str) -> None:
    with Client(url) as client:
        assert client.ready()
        page = client.rank(7, [5, 900], page_size=1, request_id="r1", context={"hour": 3}, scenario="home", explain=True)
        assert [item["item_id"] for item in page["items"]] == [900]
        assert page["items"][0]["contributions"]["click"] == pytest.approx(0.9)
        assert client.feedback(events("r1", [900, 5])) == 2
        assert client.readout("weights")["rows"] == READOUT["rows"]


def test_a_refusal_carries_its_problem(url: str) -> None:
    with Client(url) as client, pytest.raises(ServiceError) as error:
        client.rank(7, [])
    assert error.value.status == 422
    assert error.value.problem["field"] == "candidates"


def test_an_idle_connection_is_opened_again(url: str) -> None:
    with Client(url) as client:
        client.rank(7, [1])
        time.sleep(2.5)
        assert client.rank(7, [1])["items"]


def test_nobody_there_is_not_ready() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", timeout_s=1) as client:
        assert not client.ready()


def test_a_bad_address_is_refused() -> None:
    with pytest.raises(ValueError, match="must read http"):
        Client("localhost:8000")
