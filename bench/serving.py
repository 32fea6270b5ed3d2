"""The service against a plain FastAPI service around the same ranker: requests a second, latency, CPU a request.

200 candidates, MMoE of 6 experts 128-64, 5 tasks, one process that ranks on either side, one torch thread, logging on (ours).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psutil
import pyarrow as pa

from bench.harness import ROOT, Bench, Cell, interleave, ratio
from bench.serving_load import Load, drive, post
from core.arrays import AnyArray
from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, publish
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, train
from serving.bodies import ARROW, write_arrow

N_ITEMS, N_USERS, N_CANDIDATES, N_NUMBERS, CLIENTS, PAGE = 20_000, 1_000, 200, 64, 8, 20
TASKS = ("click", "long_view", "like", "follow", "share")
FIGURES = (
    "ids_rps",
    "ids_vs_fastapi_json",
    "ids_vs_fastapi_ids",
    "arrow_vs_fastapi_raw",
    "p50_ms",
    "p99_ms",
    "cpu_ms",
    "replicas2_rps",
)


def main() -> None:
    """Make the world, start both services, take turns."""
    bench = Bench("serving", FIGURES)
    seconds, rounds = (2.0, 5) if bench.quick else (6.0, 7)
    folder = Path(tempfile.mkdtemp(prefix="scorefusion-bench-"))
    try:
        bench.say("making the world and its ranker")
        matrix = make_world(folder)
        ids, arrow, jsons, raw, peer_ids = bodies(matrix)
        with _peer(folder) as peer, _service(folder, 1) as (ours, driver):
            loads: dict[str, list[Load]] = {}

            def contestant(name: str, port: int, requests: list[bytes], clients: int = CLIENTS) -> Callable[[], float]:
                def run() -> float:
                    load = drive(port, requests, clients=clients, seconds=seconds)
                    if load.n_failed:
                        raise RuntimeError(f"{name}: {load.n_failed} of {load.n} answers were no 200")
                    loads.setdefault(name, []).append(load)
                    return load.rps

                return run

            same_pages(ours, peer, ids[0], peer_ids[0])
            bench.say(f"taking turns, {rounds} rounds of {seconds:g} s each")
            samples = interleave(
                {
                    "ours ids": contestant("ours ids", ours, ids),
                    "FastAPI json": contestant("FastAPI json", peer, jsons),
                    "FastAPI ids": contestant("FastAPI ids", peer, peer_ids),
                    "ours arrow": contestant("ours arrow", ours, arrow),
                    "FastAPI raw": contestant("FastAPI raw", peer, raw),
                    "ours ids, one client": contestant("ours ids, one client", ours, ids, 1),
                },
                rounds=rounds,
            )
            cpu = [_cpu_ms(driver, lambda: drive(ours, ids, clients=CLIENTS, seconds=seconds)) for _ in range(3)]
        with _service(folder, 2) as (port, _):
            two = interleave({"two": contestant("ours ids, 2 replicas", port, ids)}, rounds=rounds)["two"]
        one = loads["ours ids, one client"][1:]
        bench.figure("ids_rps", samples["ours ids"].median)
        bench.figure("ids_vs_fastapi_json", ratio(samples["ours ids"], samples["FastAPI json"]))
        bench.figure("ids_vs_fastapi_ids", ratio(samples["ours ids"], samples["FastAPI ids"]))
        bench.figure("arrow_vs_fastapi_raw", ratio(samples["ours arrow"], samples["FastAPI raw"]))
        bench.figure("p50_ms", float(np.nanmedian([load.p50_ms for load in one])))
        bench.figure("p99_ms", float(np.nanmedian([load.p99_ms for load in one])))
        bench.figure("cpu_ms", float(np.median(cpu)))
        bench.figure("replicas2_rps", two.median)
        rows: list[list[Cell]] = []
        for name, sample in {**samples, "ours ids, 2 replicas": two}.items():
            p50, p99 = ([getattr(load, at) for load in loads[name]] for at in ("p50_ms", "p99_ms"))
            rows.append([name, sample.median, sample.low, sample.high, float(np.nanmedian(p50)), float(np.nanmedian(p99))])
        heads = ["service", "requests/s", "low", "high", "p50 ms", "p99 ms"]
        bench.table(heads, rows, title="200 candidates, 8 clients (or one)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bench.finish()


def make_world(folder: Path) -> AnyArray:
    """Items of 64 numbers, users of 8, an MMoE trained for a moment, a formula, a plan; the items' numbers `[n, 64]`."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(N_ITEMS, N_NUMBERS)).astype(np.float32)
    items = {"item_id": np.arange(N_ITEMS)} | {f"x{i}": matrix[:, i] for i in range(N_NUMBERS)}
    users = {"user_id": np.arange(N_USERS)} | {f"u{i}": rng.normal(size=N_USERS).astype(np.float32) for i in range(8)}
    item, user = rng.integers(0, N_ITEMS, 4_096), rng.integers(0, N_USERS, 4_096)
    columns = {n: c[item] for n, c in items.items()} | {n: c[user] for n, c in users.items()} | {"time_ms": np.arange(4_096)}
    columns |= {task: (rng.random(4_096) < 0.3).astype(float) for task in TASKS}
    log = LoggedDataset(columns)
    features = [{"name": n, "kind": "dense", "side": "item"} for n in items if n != "item_id"]
    features += [{"name": n, "kind": "dense", "side": "user"} for n in users if n != "user_id"]
    spec = FeatureSpec.from_json({"tasks": [{"name": task} for task in TASKS], "features": features})
    config = TrainConfig(epochs=1)
    options = {"n_experts": 6, "hidden": [128, 64]}
    made = train(spec, "mmoe", train=log, valid=log, config=config, options=options, progress=False)
    store = ArtefactStore(folder / "artefacts")
    ranker = made.publish(store, "bench")
    powers = {f"w{i}": float(w) for i, w in enumerate(np.linspace(0.5, 1.5, len(TASKS)))}
    text = " + ".join(f"w{i} * log({task} + 0.01)" for i, task in enumerate(TASKS))
    formula = Formula.parse(text, tasks=list(TASKS), params=list(powers))
    publish(store, "bench", FormulaStrategy(formula, powers), ranker=ranker.label)
    LoggedDataset(items).to_parquet(folder / "items.parquet")
    LoggedDataset(users).to_parquet(folder / "users.parquet")
    (folder / "plan.yaml").write_text(
        "version: 1\ndefault_strategy: control\nmetrics: [{name: clicks, kind: mean, task: click}]\n"
        "layers: [{name: fusion, experiments: [{name: bench, buckets: "
        "[{name: a, weight: 0.5, strategy: control}, {name: b, weight: 0.5, strategy: treatment}]}]}]\n"
    )
    return matrix


def bodies(matrix: AnyArray, n: int = 64) -> tuple[list[bytes], list[bytes], list[bytes], list[bytes], list[bytes]]:
    """The same requests in every form: ours by ids, ours as Arrow; the peer's JSON, raw and ids."""
    rng = np.random.default_rng(1)
    ids, arrow, jsons, raw, peer_ids = [], [], [], [], []
    for _ in range(n):
        user, chosen = int(rng.integers(N_USERS)), rng.choice(N_ITEMS, N_CANDIDATES, replace=False)
        numbers = matrix[chosen]
        ids.append(_json("/v1/rank", {"user_id": str(user), "candidates": chosen.tolist(), "page_size": PAGE}))
        dense = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), N_NUMBERS)
        table = pa.table({"item_id": chosen, "dense": dense})
        about = json.dumps({"user_id": str(user), "page_size": PAGE})
        arrow.append(post("/v1/rank", write_arrow(table.replace_schema_metadata({"request": about})), ARROW))
        features = np.round(numbers.astype(float), 6).tolist()
        jsons.append(_json("/json", {"user_id": user, "item_ids": chosen.tolist(), "features": features}))
        raw.append(post(f"/raw?user_id={user}", numbers.tobytes(), "application/octet-stream"))
        peer_ids.append(_json("/ids", {"user_id": user, "candidates": chosen.tolist()}))
    return ids, arrow, jsons, raw, peer_ids


def same_pages(ours: int, peer: int, our_request: bytes, peer_request: bytes) -> None:
    """Both services must rank one request alike, or the comparison means nothing."""
    pages = []
    for port, request in ((ours, our_request), (peer, peer_request)):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
            wire.sendall(request.replace(b"host: bench", b"host: bench\r\nconnection: close", 1))
            answer = b""
            while part := wire.recv(65_536):
                answer += part
        pages.append(json.loads(answer.partition(b"\r\n\r\n")[2]))
    shown = [[item["item_id"] for item in page["items"]] for page in pages]
    if pages[0]["degraded"] or shown[0] != shown[1]:
        raise RuntimeError(f"the services disagree: {pages}")


def _json(path: str, value: object) -> bytes:
    return post(path, json.dumps(value, separators=(",", ":")).encode(), "application/json")


@contextmanager
def _peer(folder: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "bench.peers.fastapi_service", str(folder), str(port)]
    with _process(command, folder / "peer.log", f"http://127.0.0.1:{port}/openapi.json"):
        yield port


@contextmanager
def _service(folder: Path, replicas: int) -> Iterator[tuple[int, int]]:
    port = _free_port()
    config = folder / f"serve-{replicas}.json"
    strategies = {"control": "strategy/bench", "treatment": "strategy/bench"}
    tables = {"items": "items.parquet", "users": "users.parquet", "plan": "plan.yaml"}
    about = {"ranker": "ranker/bench", "strategies": strategies, "default_strategy": "control", "replicas": replicas}
    config.write_text(json.dumps({"work_dir": str(folder), "port": port, **about, **tables}))
    command = [sys.executable, "-m", "workflow.cli", "serve", "--config", str(config)]
    log = folder / f"service-{replicas}.log"
    with _process(command, log, f"http://127.0.0.1:{port}/readyz") as pid:
        while "ready: " not in log.read_text():  # the driver says so when every replica is up
            time.sleep(0.2)
        yield port, pid


@contextmanager
def _process(command: list[str], log: Path, ready: str) -> Iterator[int]:
    """A process in its own session, ready when its address answers, stopped by SIGTERM."""
    with log.open("ab") as out:
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environ, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[2]} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    with suppress(URLError, OSError), urlopen(url, timeout=2) as response:
        return bool(response.status == 200)
    return False


def _cpu_ms(driver: int, work: Callable[[], Load]) -> float:
    """CPU milliseconds that all the service's processes spent for each request of some work."""

    def spent() -> float:
        total = 0.0
        for process in psutil.Process(driver).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    before, start = spent(), time.perf_counter()
    load = work()
    elapsed = time.perf_counter() - start
    return (spent() - before) * 1e3 / max(load.rps * elapsed, 1)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
