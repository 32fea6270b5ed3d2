"""Simulated users against a running service: the simulator's traffic over the HTTP client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.events import Request, Slate
from core.scores import ScoreTable
from serving.client import Client

Rank = Callable[[Request], Slate]
Feedback = Callable[[Sequence[Mapping[str, object]]], object]


NO_GAINS: Mapping[str, float] = {}


class Online:
    """A service at a URL as the two callables that traffic needs; one kept-alive connection a thread.

    Args:
        gains: What one behaviour is worth, by task: every shown item that earned something also gets a `value` event.
    """

    def __init__(self, url: str, gains: Mapping[str, float] = NO_GAINS) -> None:
        self.url, self.gains = url, gains
        self._local = threading.local()

    @property
    def client(self) -> Client:
        """This thread's connection."""
        if not hasattr(self._local, "client"):
            self._local.client = Client(self.url)
        client: Client = self._local.client
        return client

    def rank(self, request: Request) -> Slate:
        """Ask for a page by item ids."""
        answer = self.client.rank(
            request.user_id,
            request.candidates.tolist(),
            request_id=request.request_id,
            scenario=request.scenario,
            context=request.context,
            page_size=request.page_size,
        )
        return slate_of(answer)

    def feedback(self, events: Sequence[Mapping[str, object]]) -> int:
        """Report what the user did; the service stamps the time, because simulated days pass in seconds."""
        sent = [{k: v for k, v in event.items() if k != "time_ms"} for event in events]
        return self.client.feedback(sent + value_events(sent, self.gains))


def value_events(events: Sequence[Mapping[str, Any]], gains: Mapping[str, float]) -> list[dict[str, Any]]:
    """One `value` event for each request and item: the sum of gain times value over its behaviours.

    >>> event = {"event_id": "e", "request_id": "r", "item_id": 5, "task": "like", "value": 1.0}
    >>> value_events([event], {"like": 0.3})
    [{'event_id': 'r-5-value', 'request_id': 'r', 'item_id': 5, 'task': 'value', 'value': 0.3}]
    """
    worth: dict[tuple[str, int], float] = {}
    for event in events:
        if event["task"] in gains:
            key = (str(event["request_id"]), int(event["item_id"]))
            worth[key] = worth.get(key, 0.0) + gains[event["task"]] * float(event["value"])
    return [
        {"event_id": f"{request}-{item}-value", "request_id": request, "item_id": item, "task": "value", "value": value}
        for (request, item), value in worth.items()
    ]


def slate_of(answer: Mapping[str, Any]) -> Slate:
    """The service's JSON answer as a slate (without scores, which the service logs and does not send)."""
    items = answer["items"]
    return Slate(
        request_id=str(answer["request_id"]),
        items=np.array([row["item_id"] for row in items], np.int64),
        final=np.array([row["final"] for row in items], np.float64),
        scores=ScoreTable((), np.zeros((len(items), 0))),
        strategy=str(answer.get("strategy", "")),
        versions=dict(answer.get("versions", {})),
        buckets={layer: str(b["bucket"] if isinstance(b, Mapping) else b) for layer, b in answer.get("buckets", {}).items()},
        degraded=answer.get("degraded") or None,
    )
