"""A closed-loop HTTP load: a few kept-alive connections, bytes prepared beforehand, answers only measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import uvloop


@dataclass(frozen=True)
class Load:
    """What one run saw: requests a second, latencies in milliseconds, answers other than 200."""

    rps: float
    p50_ms: float
    p99_ms: float
    n_failed: int
    n: int


def post(path: str, body: bytes, content_type: str) -> bytes:
    """A whole request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}x-request-disconnect-disabled: ?1\r\n\r\n".encode() + body


def drive(port: int, requests: Sequence[bytes], *, clients: int, seconds: float, warmup_s: float = 0.5) -> Load:
    """Send the requests in turn over `clients` connections for `seconds`."""
    return uvloop.run(_drive(port, requests, clients, seconds, warmup_s))


async def _drive(port: int, requests: Sequence[bytes], clients: int, seconds: float, warmup_s: float) -> Load:
    loop = asyncio.get_running_loop()
    start = time.perf_counter() + warmup_s
    runs = [_Connection(requests, at, clients, start, start + seconds) for at in range(clients)]
    for run in runs:
        await loop.create_connection(lambda run=run: run, "127.0.0.1", port)  # type: ignore[misc]  # a loop variable kept as default
    _, late = await asyncio.wait([run.done for run in runs], timeout=warmup_s + seconds + 30)
    if late:
        raise TimeoutError(f"{len(late)} connections to port {port} got no answer")
    latencies = np.concatenate([run.latencies for run in runs]) * 1e3
    p50, p99 = np.percentile(latencies, [50, 99]) if len(latencies) else (np.nan, np.nan)
    return Load(len(latencies) / seconds, float(p50), float(p99), sum(run.n_failed for run in runs), len(latencies))


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], at: int, step: int, start: float, stop: float) -> None:
        self._requests, self._at, self._step = requests, at, step
        self._start, self._stop = start, stop
        self._buffer = bytearray()
        self._need = 0
        self._sent = 0.0
        self.latencies: list[float] = []
        self.n_failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._need:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            self._need = end + 4 + int(head[at : (head + b"\r").index(b"\r", at)])
        if len(self._buffer) < self._need:
            return
        now = time.perf_counter()
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self.n_failed += 1
        if self._start <= self._sent and now <= self._stop:
            self.latencies.append(now - self._sent)
        del self._buffer[: self._need]
        self._need = 0
        if now < self._stop:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._at = (self._at + self._step) % len(self._requests)
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._at])
