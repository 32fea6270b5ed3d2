"""A small HTTP client of the service: rank and feedback over one kept-alive connection; the standard library only."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit


class ServiceError(Exception):
    """The service refused a call; `status` and `problem` are its answer."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_s: float | None) -> None:
        super().__init__(f"{status}: {problem.get('detail', problem)}")
        self.status = status
        self.problem = problem
        self.retry_after_s = retry_after_s


class Client:
    """One connection to a running service. Not thread-safe: one a thread.

    Args:
        url: `http://host:port`.
        timeout_s: Of each call.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {url!r} must read http://host:port")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)

    def rank(
        self,
        user_id: str | int,
        candidates: Sequence[int],
        *,
        request_id: str | None = None,
        scenario: str = "",
        context: Mapping[str, Any] | None = None,
        page_size: int = 10,
        explain: bool = False,
    ) -> dict[str, Any]:
        """A page: `items` with `item_id`, `position`, `final`, and what it was made with."""
        body: dict[str, Any] = {"user_id": user_id, "candidates": [int(i) for i in candidates], "page_size": page_size}
        body["request_id"] = uuid.uuid4().hex if request_id is None else request_id  # a repeated call is logged once
        if scenario:
            body["scenario"] = scenario
        if context:
            body["context"] = dict(context)
        if explain:
            body["explain"] = True
        answer: dict[str, Any] = self.call("POST", "/v1/rank", body)
        return answer

    def feedback(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Report events (`event_id`, `request_id`, `item_id`, `task`, `value`); returns after they are durable."""
        return int(self.call("POST", "/v1/feedback", {"events": [dict(e) for e in events]})["accepted"])

    def readout(self, experiment: str) -> dict[str, Any]:
        """An experiment's readout."""
        answer: dict[str, Any] = self.call("GET", f"/v1/experiments/{quote(experiment, safe='')}/readout")
        return answer

    def ready(self) -> bool:
        """Whether the service answers rankings now."""
        try:
            self.call("GET", "/readyz")
        except (OSError, http.client.HTTPException, ServiceError, ValueError):
            self._connection.close()
            return False
        return True

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """One JSON call.

        Raises:
            ServiceError: The status is not 2xx.
            OSError: No connection. A connection the server closed while idle is opened again once.
        """
        content = None if body is None else json.dumps(body).encode()
        sent = {"x-request-disconnect-disabled": "?1", **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        for last in (False, True):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, content, sent)
                response = self._connection.getresponse()
                text = response.read()
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._connection.close()
                if last or fresh:
                    raise
            except BaseException:
                self._connection.close()
                raise
        kind = response.headers.get("Content-Type", "")
        answer = json.loads(text) if "json" in kind and text else {"detail": text.decode(errors="replace")}
        if not 200 <= response.status < 300:
            wait = response.headers.get("Retry-After")
            raise ServiceError(response.status, answer if isinstance(answer, dict) else {}, float(wait) if wait else None)
        return answer

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
