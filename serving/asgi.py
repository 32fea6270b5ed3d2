"""The smallest web layer that the hot path allows: a bounded body, a table of routes, problem+json for every refusal."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from core.errors import RequestError, ScorefusionError
from serving.problem import PROBLEM_TYPE, problem

log = logging.getLogger("scorefusion.serving")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(slots=True)
class Call:
    """One HTTP request: what a handler may look at. `parts` are the values of the path's {placeholders}."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes
    parts: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: bytes, default: str = "") -> str:
        """A header's text; names are lower case."""
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")


@dataclass(slots=True)
class Answer:
    """What a handler gives back."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Call], Awaitable[Answer]]


class App:
    """An ASGI application of exact and {placeholder} paths.

    Args:
        routes: Handler by (method, path).
        body_bytes_max: A longer body is refused with 413 before it is read, or while it streams in.
        on_start, on_stop: Run at the server's lifespan events.
        seen: Told every answer's route and status, for metrics.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        *,
        body_bytes_max: int,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
        seen: Callable[[str, int], None] = lambda route, status: None,
    ) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[list[str], str, dict[str, Handler]]] = []
        for (method, path), handler in routes.items():
            if "{" in path:
                methods = next((m for _, known, m in self._patterns if known == path), None)
                if methods is None:
                    methods = {}
                    self._patterns.append((path.split("/"), path, methods))
                methods[method] = handler
            else:
                self._exact.setdefault(path, {})[method] = handler
        self._limit = body_bytes_max
        self._on_start, self._on_stop, self._seen = on_start, on_stop, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "http":
            answer, route = await self._answer(scope, receive)
            self._seen(route, answer.status)
            await _respond(answer, scope["method"] == "HEAD", send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, str]:
        path, method = scope["path"], scope["method"]
        route, methods, parts = self._find(path)
        try:
            if methods is None:
                raise RequestError(f"no such path {path!r}; the paths are described at /docs", field="path", status=404)
            handler = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
            if handler is None:
                allowed = ", ".join(sorted(methods))
                error = RequestError(f"{method} is not allowed here; allowed: {allowed}", field="method", status=405)
                return _refuse(error, ((b"allow", allowed.encode()),)), route
            headers = dict(scope["headers"])
            body = b"" if method in ("GET", "HEAD") else await _read(headers, receive, self._limit)
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"))) if scope["query_string"] else {}
            return await handler(Call(method, path, headers, body, parts, query)), route
        except RequestError as refused:
            return _refuse(refused), route
        except ScorefusionError as refused:
            return Answer(problem(422, str(refused)), PROBLEM_TYPE, 422), route
        except Exception:  # the last line: logged, and one clear 500
            log.exception("a request failed", extra={"route": route})
            return Answer(problem(500, "the service failed; its log has the details"), PROBLEM_TYPE, 500), route

    def _find(self, path: str) -> tuple[str, dict[str, Handler] | None, dict[str, str]]:
        methods = self._exact.get(path)
        if methods is not None:
            return path, methods, {}
        pieces = path.split("/")
        for pattern, route, found in self._patterns:
            if len(pattern) == len(pieces) and all(p == q or p.startswith("{") for p, q in zip(pattern, pieces, strict=True)):
                named = {p[1:-1]: q for p, q in zip(pattern, pieces, strict=True) if p.startswith("{")}
                if all(named.values()):
                    return route, found, named
        return "unknown", None, {}

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if self._on_start is not None:
                    await self._on_start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._on_stop is not None:
                    await self._on_stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


async def _read(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The body, refused as soon as its declared or its streamed length passes the limit."""
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise RequestError("the client went away", field="body", status=400)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("the body ended early", field="body", status=400)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"the body is larger than {limit} bytes; send fewer candidates or events a call", field="body", status=413
    )


def _refuse(error: RequestError, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    if error.status in (429, 503):
        headers += ((b"retry-after", b"1"),)
    if error.status == 401:
        headers += ((b"www-authenticate", b"Bearer"),)
    return Answer(problem(error.status, str(error), field=error.field), PROBLEM_TYPE, error.status, headers)


async def _respond(answer: Answer, head: bool, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
