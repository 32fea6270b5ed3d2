"""The API's description (OpenAPI 3.1), written beside the hand-made readers it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.bodies import ARROW, CONTEXT_MAX, DEFAULT_PAGE, ID_MAX, Limits

_ADMIN = {"401": "token", "403": "off"}
_ID = {"type": "string", "minLength": 1, "maxLength": ID_MAX}


def document(limits: Limits) -> dict[str, Any]:
    """The whole description for a service with these limits.

    >>> sorted(document(Limits())["paths"])[:3]
    ['/healthz', '/metrics', '/readyz']
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scorefusion",
            "version": "1",
            "description": "Rank candidates by fused multi-task scores, log what was shown, take feedback, read experiments.",
        },
        "paths": {
            "/v1/rank": {"post": _rank(limits)},
            "/v1/feedback": {"post": _feedback(limits)},
            "/v1/assignments": {"get": _get("Buckets of one unit, by layer", [_query("user_id")])},
            "/v1/experiments/{id}/readout": {
                "get": _get("Compare an experiment's buckets", [_path("id")], {"404": "not in the plan"})
            },
            "/v1/plan": {"get": _get("The plan in force")},
            "/v1/models": {"get": _get("What is served: artefacts, tasks, strategies")},
            "/v1/overview": {"get": _get("The first page's numbers")},
            "/v1/flush": {"post": _get("Commit this replica's waiting exposures now (admin)", [], _ADMIN)},
            "/v1/reload": {"post": _get("Load the newest artefacts beside the served ones, then swap (admin)", [], _ADMIN)},
            "/healthz": {"get": _get("The process is alive")},
            "/readyz": {"get": _get("Rankings are answered")},
            "/metrics": {"get": _get("Prometheus metrics, summed over replicas")},
        },
        "components": {
            "schemas": {"RankRequest": _rank_request(limits), "RankAnswer": _RANK_ANSWER, "Event": _EVENT, "Problem": _PROBLEM},
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }


def _rank(limits: Limits) -> dict[str, Any]:
    return {
        "summary": "Rank candidates into a page",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _ref("RankRequest"),
                    "example": {"user_id": "7", "candidates": [3, 1, 2], "page_size": 2},
                },
                ARROW: {"schema": {"type": "string", "format": "binary", "description": "column item_id and feature columns"}},
            },
        },
        "responses": {
            "200": {
                "description": "The page, best first",
                "content": {"application/json": {"schema": _ref("RankAnswer")}, ARROW: {"schema": {"type": "string"}}},
            },
            **_refusals({"400": "not JSON", "413": "body too large", "415": "content type", "422": "a field", "429": "busy"}),
        },
    }


def _feedback(limits: Limits) -> dict[str, Any]:
    events = {"type": "array", "items": _ref("Event"), "minItems": 1, "maxItems": limits.feedback_max}
    return {
        "summary": "Report what the user did; answered after the commit, idempotent by event_id",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "properties": {"events": events}},
                    "example": {"events": [{"event_id": "e1", "request_id": "r1", "item_id": 3, "task": "click", "value": 1}]},
                },
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "Durable",
                "content": {"application/json": {"schema": _object({"accepted": {"type": "integer"}})}},
            },
            **_refusals({"400": "not JSON", "413": "too much", "422": "a field", "429": "busy", "503": "the store is away"}),
        },
    }


def _rank_request(limits: Limits) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["user_id", "candidates"],
        "additionalProperties": False,
        "properties": {
            "request_id": {**_ID, "description": "made by the service when absent"},
            "user_id": {"oneOf": [_ID, {"type": "integer"}]},
            "candidates": {
                "type": "array",
                "items": {"type": "integer", "format": "int64"},
                "minItems": 1,
                "maxItems": limits.candidates_max,
            },
            "features": {
                "type": "object",
                "description": "item columns sent inline: one value per candidate",
                "additionalProperties": {"type": "array"},
            },
            "scenario": {"type": "string", "maxLength": ID_MAX},
            "context": {"type": "object", "maxProperties": CONTEXT_MAX},
            "page_size": {"type": "integer", "minimum": 1, "maximum": limits.page_size_max, "default": DEFAULT_PAGE},
            "explain": {"type": "boolean", "default": False, "description": "add each task's contribution"},
        },
    }


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), **more}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _query(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": True, "schema": {"type": "string"}}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _get(
    summary: str, parameters: list[dict[str, Any]] | None = None, refusals: Mapping[str, str] | None = None
) -> dict[str, Any]:
    answer: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "OK"}, **_refusals(refusals or {})}}
    return {**answer, "parameters": parameters} if parameters else answer


def _refusals(reasons: Mapping[str, str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


_RANK_ANSWER = _object(
    {
        "request_id": {"type": "string"},
        "items": {
            "type": "array",
            "items": _object(
                {"item_id": {"type": "integer"}, "position": {"type": "integer"}, "final": {"type": ["number", "null"]}}
            ),
        },
        "strategy": {"type": "string"},
        "buckets": {"type": "object", "additionalProperties": {"type": "string"}, "description": "bucket by layer"},
        "versions": {"type": "object"},
        "degraded": {"type": ["string", "null"], "description": "why a fallback answered; null when none did"},
    }
)
_EVENT = _object(
    {
        "event_id": {**_ID, "description": "the same event twice is stored once"},
        "request_id": _ID,
        "item_id": {"type": "integer", "format": "int64"},
        "task": _ID,
        "value": {"type": "number", "default": 1},
        "time_ms": {"type": "integer", "description": "when it happened; now when absent"},
    },
    required=["event_id", "request_id", "item_id", "task"],
    additionalProperties=False,
)
_PROBLEM = _object(
    {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
    }
)
