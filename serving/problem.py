"""Problem details (RFC 9457): every refused request gets one JSON object that names the field and the rule."""

from __future__ import annotations

from http import HTTPStatus

import orjson

from core.errors import RequestError

PROBLEM_TYPE = "application/problem+json"


def problem(status: int, detail: str, *, field: str | None = None, request_id: str | None = None) -> bytes:
    """The body of a refusal.

    >>> problem(422, "candidates is empty", field="candidates")
    b'{"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"candidates is empty","field":"candidates"}'
    """
    body: dict[str, object] = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail}
    if field is not None:
        body["field"] = field
    if request_id is not None:
        body["request_id"] = request_id
    return orjson.dumps(body)


def of_error(error: RequestError) -> tuple[int, bytes, str]:
    """Status, body and media type of a refused request."""
    return error.status, problem(error.status, str(error), field=error.field), PROBLEM_TYPE


def _title(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return "Error"
    return {413: "Content Too Large", 422: "Unprocessable Entity"}.get(status, phrase)
