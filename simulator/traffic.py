"""Traffic: simulated users against a running service. They ask, look, act and feed back; the truth stays with us.

Closed loop: a user asks for the next page after the last one came. The service is two callables, so this file knows no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from core.arrays import AnyArray, Floats, Ints
from core.errors import ConfigError
from core.events import SCORE, Request, Slate
from core.logs import LoggedDataset
from simulator.episodes import Lives
from simulator.rollout import request_ids, requests, rows_of
from simulator.session import Page, Sessions
from simulator.world import World

Rank = Callable[[Request], Slate]
Feedback = Callable[[list[dict[str, object]]], object]  # rows of core.events.FEEDBACK_SCHEMA as mappings


@dataclass(slots=True)
class Traffic:
    """What was sent and what is true: `log` has one row an impression with `bucket` of `layer`, every behaviour and the logged
    scores."""

    log: LoggedDataset
    n_requests: int = 0
    n_failed: int = 0
    n_feedback: int = 0
    seconds: float = 0.0
    latency_ms: Floats = field(default_factory=lambda: np.zeros(0))
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.n_requests / self.seconds if self.seconds > 0 else float("nan")


def traffic(
    world: World,
    rank: Rank,
    feedback: Feedback,
    *,
    seed: int,
    users: Ints | None = None,
    n_days: int = 1,
    n_clients: int = 8,
    rate: float | None = None,
    layer: str | None = None,
    max_requests: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
    progress: bool = False,
) -> Traffic:
    """Let `users` live through `n_days` of simulated time against a service, as fast as it answers or at `rate` requests per
    second.

    Simulated days pass quickly: `time_ms` of requests and feedback is the world's clock, not the wall's.

    Args:
        rank, feedback: The service. A call that raises counts as failed; its user sees nothing, leaves, and comes back another
        day. n_clients: Users with a request in flight at the same time.
        layer: Whose bucket to note in the log; the slate's only or first layer by default.
        max_requests: Stop early after this many.
    """
    if n_clients < 1 or n_days < 1 or (rate is not None and rate <= 0):
        raise ConfigError(f"n_clients {n_clients} and n_days {n_days} must be at least 1 and rate {rate} positive")
    sessions = Sessions(world, n_clients)
    lives = Lives(sessions, seed, np.arange(len(world.population)) if users is None else np.asarray(users, np.int64), n_days)
    lives.start()
    result = Traffic(LoggedDataset({}))
    chunks: list[dict[str, AnyArray]] = []
    latency: list[float] = []
    begun, k = clock(), world.settings.page_size
    with ThreadPoolExecutor(n_clients) as pool, tqdm(total=len(lives.users), unit="user", disable=not progress) as bar:

        def ask(request: Request) -> tuple[Slate | str, float]:
            start = clock()
            try:
                return rank(request), 1000 * (clock() - start)
            except Exception as error:  # whatever a client raises is one failed request, counted by its name
                return type(error).__name__, 1000 * (clock() - start)

        while lives.alive.any() and (max_requests is None or result.n_requests < max_requests):
            if rate is not None:
                sleep(max(0.0, begun + result.n_requests / rate - clock()))
            sessions.offer()
            alive = np.flatnonzero(lives.alive)
            asked = requests(sessions)
            answers = list(pool.map(ask, [asked[slot] for slot in alive]))
            latency.extend(ms for _, ms in answers)
            rows = np.tile(np.arange(k), (n_clients, 1))
            slates: dict[int, Slate] = {}
            for slot, (answer, _) in zip(alive.tolist(), answers, strict=True):
                if isinstance(answer, str):
                    result.errors[answer] = result.errors.get(answer, 0) + 1
                else:
                    slates[slot], rows[slot] = answer, rows_of(answer, asked[slot])
            page = sessions.show(rows)
            ok = np.array(sorted(slates), np.int64)
            result.n_requests += len(alive)
            result.n_failed += len(alive) - len(ok)
            events = [_feedback(world, page, slot, asked[slot].request_id) for slot in ok.tolist()]
            result.n_feedback += sum(map(len, events))
            list(pool.map(feedback, [rows for rows in events if rows]))
            chunks.append(_impressions(sessions, page, ok, slates, layer))
            failed = np.setdiff1d(alive, ok)
            lives.follow(np.flatnonzero((page.left | page.cut | np.isin(np.arange(n_clients), failed)) & lives.alive), page)
            bar.update(lives.done - bar.n)
    result.seconds, result.latency_ms = clock() - begun, np.array(latency)
    result.log = _joined(chunks)
    return result


def _feedback(world: World, page: Page, slot: int, request_id: str) -> list[dict[str, object]]:
    """One event per shown item and behaviour that happened; `event_id` names both, so that sending twice counts once."""
    done = page.outcome.done[:, slot]
    return [
        {
            "event_id": f"{request_id}-{page.items[slot, column]}-{world.tasks.names[task]}",
            "request_id": request_id,
            "item_id": int(page.items[slot, column]),
            "task": world.tasks.names[task],
            "value": float(done[task, column]),
            "time_ms": int(page.time_ms[slot]) + 1000,
        }
        for task, column in zip(*(index.tolist() for index in np.nonzero(done)), strict=True)
    ]


def _impressions(sessions: Sessions, page: Page, ok: Ints, slates: Mapping[int, Slate], layer: str | None) -> dict[str, AnyArray]:
    k = page.items.shape[1]
    ids = request_ids(sessions.user[ok], sessions.session[ok], sessions.step[ok])
    buckets = [_bucket(slates[slot].buckets, layer) for slot in ok.tolist()]
    request: dict[str, AnyArray] = {
        "request_id": ids,
        "user_id": sessions.user[ok],
        "session": sessions.session[ok],
        "step": sessions.step[ok],
        "scenario": np.array(list(sessions.world.settings.scenarios), object)[sessions.place[ok]],
        "time_ms": page.time_ms[ok],
        "propensity": np.array([slates[slot].propensity for slot in ok.tolist()], float),
        "bucket": np.array(buckets, object),
    }
    columns = {name: np.repeat(column, k) for name, column in request.items()}
    columns["item_id"] = page.items[ok].ravel()
    columns["position"] = np.tile(np.arange(1, k + 1), len(ok))
    for index, task in enumerate(sessions.world.tasks.names):
        columns[task] = page.outcome.done[index][ok].ravel()
    if len(ok):
        columns["final"] = np.concatenate([slates[slot].final[:k] for slot in ok.tolist()]).astype(float)
        tables = [slates[slot].scores for slot in ok.tolist()]
        for index, task in enumerate(tables[0].tasks):
            columns[SCORE + task] = np.concatenate([table.values[:k, index] for table in tables]).astype(np.float32)
    return columns


def _bucket(buckets: Mapping[str, str], layer: str | None) -> str:
    return buckets.get(layer, "") if layer is not None else next(iter(buckets.values()), "")


def _joined(chunks: Iterable[dict[str, AnyArray]]) -> LoggedDataset:
    parts = [chunk for chunk in chunks if len(chunk["request_id"])]
    return LoggedDataset({name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {})
