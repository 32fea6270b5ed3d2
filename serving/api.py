"""The HTTP API: routes of one service; bodies are read in `bodies`, refusals made in `asgi`, pages in `pages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np
import orjson
import pyarrow as pa

from core.errors import RequestError
from serving import bodies
from serving.asgi import HTML, Answer, App, Call, Handler
from serving.auth import require_admin
from serving.bodies import ARROW
from serving.engine import Ranked
from serving.metrics import render
from serving.openapi import document
from serving.pages.render import Pages
from serving.service import Service

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_ENC = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def make_app(service: Service, *, admin_token: str = "", pages: Pages | None = None) -> App:
    """The ASGI application of one service. It starts and stops the service with the server's lifespan."""
    routes = Routes(service, admin_token, pages or Pages())
    return App(
        routes.table(),
        body_bytes_max=service.limits.body_bytes_max,
        on_start=service.start,
        on_stop=service.stop,
        seen=lambda route, status: service.metrics.count("requests_total", 1, route=route, status=str(status)),
    )


class Routes:
    """Handlers by route; each takes a call and gives an answer or raises the refusal."""

    def __init__(self, service: Service, admin_token: str, pages: Pages) -> None:
        self._service = service
        self._token = admin_token
        self._pages = pages
        self._openapi = orjson.dumps(document(service.limits))

    def table(self) -> Mapping[tuple[str, str], Handler]:
        """Every route of the service."""
        return {
            ("POST", "/v1/rank"): self.rank,
            ("POST", "/v1/feedback"): self.feedback,
            ("GET", "/v1/assignments"): self.assignments,
            ("GET", "/v1/plan"): self.plan,
            ("GET", "/v1/models"): self.models,
            ("GET", "/v1/overview"): self.overview,
            ("GET", "/v1/experiments/{id}/readout"): self.readout,
            ("POST", "/v1/flush"): self.flush,
            ("POST", "/v1/reload"): self.reload,
            ("GET", "/healthz"): self.health,
            ("GET", "/readyz"): self.ready,
            ("GET", "/metrics"): self.prometheus,
            ("GET", "/openapi.json"): self.openapi,
            ("GET", "/docs"): self.docs,
            ("GET", "/"): self.home,
            ("GET", "/experiments/{id}"): self.experiment_page,
            ("GET", "/static/{file}"): self.static,
        }

    async def rank(self, call: Call) -> Answer:
        """Rank candidates; the hot path."""
        service = self._service
        kind = call.headers.get(b"content-type", b"application/json")
        arrow = kind.startswith(b"application/vnd.apache.arrow")
        if not arrow and not kind.startswith(b"application/json"):
            raise RequestError(f"content-type must be application/json or {ARROW}", field="content-type", status=415)
        read = bodies.rank_arrow if arrow else bodies.rank_json
        request, explain = read(call.body, service.limits, service.wall_ms())
        ranked = service.rank(request)
        explanation = service.engine.explain(ranked) if explain else None
        return _arrow(ranked, explanation) if arrow else Answer(orjson.dumps(_shown(ranked, explanation), option=_NUMPY))

    async def feedback(self, call: Call) -> Answer:
        """Take feedback; the answer comes after the commit."""
        service = self._service
        events = bodies.feedback(call.body, call.header(b"content-type"), service.limits, service.wall_ms())
        return _json({"accepted": await service.feedback(events)})

    async def assignments(self, call: Call) -> Answer:
        """Buckets of a unit: `?user_id=7` and any attribute the plan's targeting reads."""
        if "user_id" not in call.query:
            raise RequestError("give ?user_id=", field="user_id", status=422)
        if self._service.plan is None:
            return _json({})
        return _json(self._service.plan.assignments({"scenario": "", **call.query}))

    async def plan(self, call: Call) -> Answer:
        """The plan in force."""
        return _json(self._service.plan.to_json() if self._service.plan is not None else {"layers": []})

    async def models(self, call: Call) -> Answer:
        """What is served: artefact labels, tasks, strategies."""
        release = self._service.engine.release
        return _json(
            {
                "versions": dict(release.versions),
                "tasks": list(release.ranker.names),
                "strategies": list(release.strategies),
                "default_strategy": release.default,
                "item_features": self._service.info.get("item_features", []),
            }
        )

    async def overview(self, call: Call) -> Answer:
        """The first page's numbers as JSON."""
        return _json(await self._overview())

    async def readout(self, call: Call) -> Answer:
        """An experiment's readout."""
        return _json(await self._service.readout(self._experiment(call)))

    async def flush(self, call: Call) -> Answer:
        """Send this replica's waiting exposures to the store now (admin)."""
        require_admin(call.header(b"authorization"), self._token)
        await self._service.flush()
        return _json({"flushed": True})

    async def reload(self, call: Call) -> Answer:
        """Have every replica load the newest artefacts beside what it serves, then swap (admin)."""
        require_admin(call.header(b"authorization"), self._token)
        now_ms = self._service.wall_ms()
        await self._service.writer.ask_reload(now_ms)
        return Answer(orjson.dumps({"asked_ms": now_ms}), status=202)

    async def health(self, call: Call) -> Answer:
        """The process is alive."""
        return _json({"status": "ok"})

    async def ready(self, call: Call) -> Answer:
        """Rankings are answered; the event store's state is said beside it."""
        return _json({"status": "ready", "event_store": "up" if self._service.writer_up else "down"})

    async def prometheus(self, call: Call) -> Answer:
        """Metrics summed over replicas."""
        return Answer(render(await self._service.snapshots()).encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, call: Call) -> Answer:
        """The API's description."""
        return Answer(self._openapi)

    async def docs(self, call: Call) -> Answer:
        """The same description to read."""
        return self._page(self._pages.docs(document(self._service.limits)))

    async def home(self, call: Call) -> Answer:
        """What is served, is it healthy, which experiment needs attention."""
        overview = await self._overview()
        plan = self._service.plan
        readouts = [await self._readout_or_error(name) for name in (plan.experiments if plan is not None else [])]
        return self._page(self._pages.home(overview, readouts))

    async def experiment_page(self, call: Call) -> Answer:
        """One experiment's readout."""
        name = self._experiment(call)
        return self._page(self._pages.experiment(await self._overview(), await self._readout_or_error(name)))

    async def static(self, call: Call) -> Answer:
        """Styles, scripts and Plotly from its wheel."""
        found = self._pages.static(call.parts["file"], "gzip" in call.header(b"accept-encoding"))
        if found is None:
            raise RequestError(f"no file {call.parts['file']!r}", field="path", status=404)
        return Answer(found.content, found.content_type, headers=found.headers)

    def _experiment(self, call: Call) -> str:
        name = unquote(call.parts["id"])
        known = self._service.plan.experiments if self._service.plan is not None else []
        if name not in known:
            listed = ", ".join(known) or "none"
            raise RequestError(f"no experiment {name!r} in the plan; experiments: {listed}", field="id", status=404)
        return name

    async def _overview(self) -> dict[str, Any]:
        service = self._service
        release = service.engine.release
        try:
            store: dict[str, Any] | None = await service.writer.overview()
        except Exception:  # the page is up while the store is down, and says so
            store = None
        return {
            **service.info,
            "versions": dict(release.versions),
            "default_strategy": release.default,
            "strategies": list(release.strategies),
            "store": store,
            "metrics": await service.snapshots(),
            "time_ms": service.wall_ms(),
        }

    async def _readout_or_error(self, name: str) -> dict[str, Any]:
        try:
            return {"experiment": name, **await self._service.readout(name)}
        except Exception as error:  # the page shows what failed in the readout's place
            return {"experiment": name, "error": str(error)}

    def _page(self, html: str) -> Answer:
        return Answer(html.encode(), HTML, headers=_PAGE_HEADERS)


_PAGE_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)


def _json(value: Any) -> Answer:
    return Answer(orjson.dumps(value, option=_ENC))


def _shown(ranked: Ranked, explanation: list[dict[str, float]] | None) -> dict[str, Any]:
    slate = ranked.slate
    items = [
        {"item_id": item, "position": position, "final": final}
        for position, (item, final) in enumerate(zip(slate.items.tolist(), slate.final.tolist(), strict=True), 1)
    ]
    if explanation is not None:
        items = [{**item, "contributions": parts} for item, parts in zip(items, explanation, strict=True)]
    return {"request_id": slate.request_id, "items": items, **_about(ranked)}


def _about(ranked: Ranked) -> dict[str, Any]:
    slate = ranked.slate
    return {
        "strategy": slate.strategy,
        "buckets": slate.buckets,
        "versions": {"ranker": slate.versions.get("ranker"), "strategy": slate.versions.get(slate.strategy)},
        "degraded": slate.degraded,
    }


def _arrow(ranked: Ranked, explanation: list[dict[str, float]] | None) -> Answer:
    slate = ranked.slate
    table = pa.table(
        {
            "item_id": slate.items,
            "position": np.arange(1, len(slate.items) + 1, dtype=np.int32),
            "final": slate.final,
        }
    )
    about = {"request_id": slate.request_id, **_about(ranked)}
    if explanation is not None:
        about["contributions"] = explanation
    return Answer(bodies.write_arrow(table.replace_schema_metadata({"answer": orjson.dumps(about)})), ARROW)
