"""The pages: right words, nothing unescaped, and a real browser draws the plot without a network."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from core.events import Request
from serving.api import make_app
from serving.bodies import Limits
from serving.engine import Engine
from serving.openapi import document
from serving.pages.intervals import interval_figures
from serving.pages.render import Pages, health, script_json
from serving.service import Service
from tests.serving.fakes import READOUT, Entry, MemoryWriter, release, row
from tests.serving.running import free_port
from tests.serving.test_api import Plan

VERSIONS = {"ranker": "ranker/x/v1"}
OVERVIEW: dict[str, Any] = {"versions": VERSIONS, "default_strategy": "x", "metrics": [], "time_ms": 0, "store": {}}
EVIL = '<img src=x onerror=alert(1)></script><script>alert("x")</script>'
CHROMIUM = Path("/usr/bin/chromium")


def test_text_from_outside_never_becomes_markup() -> None:
    readout = READOUT | {"experiment": EVIL, "warnings": [EVIL], "rows": [row(EVIL, 0.1, 0.05)], "counts": {EVIL: 3}}
    overview = OVERVIEW | {"versions": {EVIL: EVIL}}
    pages = [Pages().home(overview, [readout, {"experiment": EVIL, "error": EVIL}]), Pages().experiment(overview, readout)]
    for page in pages:
        assert "<img src=x" not in page
        assert "<script>alert" not in page
    for text in re.findall(r'<script type="application/json">(.*?)</script>', "".join(pages)):
        assert json.loads(text)["data"]


def test_json_inside_a_script_element_cannot_close_it() -> None:
    assert "<" not in script_json({"a": EVIL})
    assert json.loads(script_json({"a": EVIL})) == {"a": EVIL}


def test_an_empty_service_says_what_to_do_next() -> None:
    page = Pages().home(OVERVIEW, [])
    assert "Nothing has been ranked yet" in page
    assert "Declare one in the plan file" in page
    empty = READOUT | {"counts": {"control": 0, "treatment": 0}, "rows": []}
    assert "Nobody has been in this experiment yet" in Pages().home(OVERVIEW, [empty])


def test_a_mismatch_and_a_failure_are_alarms() -> None:
    page = Pages().home(OVERVIEW, [READOUT | {"srm_p": 1e-9}, {"experiment": "x", "error": "no such table"}])
    assert "Sample-ratio mismatch" in page
    assert "<strong>The readout failed:</strong> no such table" in page


def test_intervals_are_coloured_by_what_they_mean_for_the_goal() -> None:
    (figure,) = interval_figures(READOUT)
    assert {trace["meta"]: len(trace["x"]) for trace in figure["data"]} == {"better": 1, "worse": 1, "unclear": 1}
    better = next(trace for trace in figure["data"] if trace["meta"] == "better")
    assert better["x"] == pytest.approx([8.0])
    assert better["error_x"]["array"] == pytest.approx([3.0])


def test_what_cannot_be_computed_is_not_drawn() -> None:
    bad = row("x", 0.1, 0.05) | {"status": "too_few_units", "diff_low": None, "rel_diff_low": None}
    assert interval_figures({"rows": [bad]}) == []


def test_health_adds_up() -> None:
    service = _service()
    assert health({"metrics": [service.snapshot(), service.snapshot()]})["ranked"] == 2 * 40


def test_the_api_page_shows_every_call() -> None:
    described = document(Limits())
    page = Pages().docs(described)
    assert all(f"<code>{path}</code>" in page for path in described["paths"])


def _service() -> Service:
    def assign(request: Request) -> dict[str, Entry]:
        return {"fusion": Entry("weights", "treatment" if int(request.user_id) % 2 else "control", "by_like", request.user_id)}

    service = Service(Engine(release(), assign=assign), MemoryWriter(), plan=Plan())
    for user in range(40):
        service.rank(Request(str(user), str(user), np.arange(20)))
    return service


@pytest.fixture
def site() -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_app(_service()), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1180), ("dark", 390)])
def test_a_browser_draws_the_readout_offline(site: str, scheme: Any, width: int) -> None:
    if not CHROMIUM.exists():
        if os.environ.get("SCOREFUSION_REQUIRE_BROWSER") == "1":
            pytest.fail(f"SCOREFUSION_REQUIRE_BROWSER=1, but there is no {CHROMIUM}")
        pytest.skip(f"no browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    troubles: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=[*flags, "--no-first-run", "--disable-quic"])
        page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        ours = (site, "data:", "blob:")
        page.on("request", lambda request: troubles.append(request.url) if not request.url.startswith(ours) else None)
        page.goto(site)
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=60_000)
        assert page.locator(".figure .errorbar").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        labels = page.locator(".figure .ytick").all_text_contents()
        assert any("better" in label for label in labels)
        assert "T00:00" not in page.locator("time").first.inner_text()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        browser.close()
    assert troubles == []


FILES = {"style.css": "text/css", "page.js": "text/javascript", "mark.svg": "image/svg", "plotly.min.js": "text/javascript"}


@pytest.mark.parametrize("gzipped", [True, False])
def test_every_file_of_the_site_is_there(gzipped: bool) -> None:
    for file, kind in FILES.items():
        found = Pages().static(file, gzipped)
        assert found is not None
        assert found.content_type.startswith(kind)
        assert (b"content-encoding", b"gzip") in found.headers or not gzipped
    assert Pages().static("../api.py", gzipped) is None
