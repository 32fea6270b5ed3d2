"""Training speed against torch-rechub and DeepCTR-Torch: samples a second from columns in memory to trained weights.

Everybody trains the same network (`peers/networks.py`) on the same rows with Adam, batches of 1,024, two threads and no loader
processes, in turn. Ours is the public `train`, so its time holds encoding, building and one tiny validation too; the
peers' time starts with their model built. torch-rechub's BatchNorm is taken out, so that the networks are the same; a row of
the table shows it as it ships. Losses of the first epoch stand beside, because a fast trainer that does not learn is no win.
Memory: the peak of a process that trains on ten million rows of Parquet, streamed (`stream_worker.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.harness import Bench, Sample, interleave, peer_python, ratio
from bench.peers.networks import BATCH, EMBEDDING, LEARNING_RATE, N_DENSE, NETWORKS, TASKS, VOCABULARIES, Network, make_columns
from bench.peers.protocol import Worker
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.train import TrainConfig, train

PEERS = ("rechub", "deepctr")
THREADS = 2
ROUNDS = 5
FIGURES = (
    *(f"{name}_vs_{peer}" for name in NETWORKS for peer in PEERS),
    "large_mmoe_flops_share",
    "samples_per_s_small_mmoe",
    "rss_10m_rows_mb",
)
STREAMED = 10_000_000
PARTS = (*NETWORKS, "memory")


@dataclass
class Runner:
    """One contestant: calling it trains one epoch and returns samples a second; the first call's loss is kept."""

    n_rows: int
    epoch: Callable[[], dict[str, Any]]
    dense_parameters: int
    losses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        answer = self.epoch()
        self.losses.append(answer["loss"])
        return float(self.n_rows / answer["seconds"])


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark."""
    bench = Bench("ranker_speed", FIGURES, argv=argv, arguments=_arguments)
    torch.set_num_threads(THREADS)
    rows_of = _rows(bench.quick)
    headers = ["who", "dense parameters", "samples/s", "min", "max", "ours is x", "epoch-1 loss"]
    with tempfile.TemporaryDirectory() as folder:
        for name, network in NETWORKS.items():
            if name not in bench.args.parts:
                continue
            table: list[list[str | int | float | None]] = []
            n_rows = rows_of[name.split("_")[0]]
            columns = make_columns(n_rows, seed=1)
            data = Path(folder) / f"{n_rows}.npz"
            np.savez(data, allow_pickle=False, **columns)
            samples, runners = _compare(bench, name, network, columns, data)
            ours = samples["ours"]
            for peer in PEERS:
                bench.figure(f"{name}_vs_{peer}", ratio(ours, samples.get(peer)))
            if name == "small_mmoe":
                bench.figure("samples_per_s_small_mmoe", ours.median)
            if name == "large_mmoe":
                bench.figure("large_mmoe_flops_share", ours.median * 6 * network.dense_parameters / samples["matmul"].median)
            for who, runner in runners.items():
                s = samples[who]
                against = ratio(ours, s) if who != "ours" else None
                table.append([who, runner.dense_parameters, s.median, s.low, s.high, against, runner.losses[0]])
            bench.table(
                headers, table, title=f"{name}: samples/s end to end, batch {BATCH}, {THREADS} threads, medians of {ROUNDS}"
            )
    if "memory" in bench.args.parts:
        _memory(bench)
    return bench.finish(partial=set(bench.args.parts) != set(PARTS))


def _memory(bench: Bench) -> None:
    """Peak memory of a streamed run; only the full number of rows is the figure."""
    n = STREAMED // 20 if bench.quick else STREAMED
    bench.say(f"streaming {n:,} rows ...")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.stream_worker", str(n), folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    if bench.quick:
        bench.note("rss_10m_rows_mb", "null in a quick run, which streams fewer rows; see the table")
    else:
        bench.figure("rss_10m_rows_mb", said["peak_mb"])
    headers = ["rows", "file MB", "MB before", "peak MB", "seconds", "click AUC"]
    row = [int(said["rows"]), said["file_mb"], said["before_mb"], said["peak_mb"], said["seconds"], said["click_auc"]]
    bench.table(headers, [row], title="memory: one epoch over streamed Parquet, vocabularies included")


def _compare(
    bench: Bench, name: str, network: Network, columns: dict[str, Any], data: Path
) -> tuple[dict[str, Sample], dict[str, Runner]]:
    n_rows = len(columns[TASKS[0]])
    runners = {"ours": _ours(network, columns)}
    with ExitStack() as stack:
        for peer in PEERS if bench.peers else ():
            python = peer_python(peer)
            if python is None:
                bench.note(peer, "not installed, its figures are null; run `make peers`")
                continue
            for who, options in ((peer, {}), (f"{peer} as shipped", {"as_shipped": True})):
                if options and peer != "rechub":
                    continue  # only torch-rechub puts BatchNorm into every layer
                worker = stack.enter_context(Worker(python, f"bench.peers.{peer}_worker", threads=THREADS))
                built = worker.call("build", data=str(data), network=network.to_json(), threads=THREADS, **options)
                runners[who] = Runner(n_rows, partial(worker.call, "epoch"), built["dense_parameters"])
        contestants: dict[str, Callable[[], float]] = dict(runners)
        if name == "large_mmoe":
            contestants["matmul"] = matmul_flops
        bench.say(f"{name}: {', '.join(contestants)} on {n_rows:,} rows, {ROUNDS} turns each ...")
        return interleave(contestants, rounds=ROUNDS), runners


def _ours(network: Network, columns: dict[str, Any]) -> Runner:
    spec = feature_spec()
    log = LoggedDataset({**columns, "user_id": np.arange(len(columns[TASKS[0]]), dtype=np.int64)})
    both = np.unique(np.concatenate([[int(np.argmax(log[t])), int(np.argmin(log[t]))] for t in TASKS]))
    valid, config = log.take(both), TrainConfig(epochs=1, batch_size=BATCH, learning_rate=LEARNING_RATE)

    def epoch() -> dict[str, Any]:
        start = time.perf_counter()
        done = train(spec, network.model, train=log, valid=valid, config=config, options=options(network), seed=0, progress=False)
        return {"seconds": time.perf_counter() - start, "loss": float(sum(done.history[-1]["loss"].values()))}

    once = train(spec, network.model, train=valid, valid=valid, config=config, options=options(network), progress=False).model
    dense = sum(p.numel() for p in once.parameters()) - sum(p.numel() for p in once.inputs.parameters())
    return Runner(len(log), epoch, dense)


def _rows(quick: bool) -> dict[str, int]:
    return {"small": 40_000, "large": 12_000} if quick else {"small": 200_000, "large": 80_000}


def feature_spec() -> FeatureSpec:
    """The compared columns as a feature spec: the first half of the ids belongs to the user, the rest to the item."""
    features = [
        Feature(
            f"sparse_{i}", side="user" if i < len(VOCABULARIES) // 2 else "item", dim=EMBEDDING, vocabulary="range", size=size
        )
        for i, size in enumerate(VOCABULARIES)
    ]
    features += [Feature(f"dense_{i}", "dense", "item", transform="none") for i in range(N_DENSE)]
    return FeatureSpec(features, TaskSet([TaskSpec(task) for task in TASKS]))


def options(network: Network) -> dict[str, Any]:
    """The architecture's options for a compared network."""
    if network.model == "mmoe":
        return {"n_experts": network.n_experts, "hidden": list(network.expert), "towers": list(network.tower)}
    levels = [list(network.expert)] * 2
    return {"n_specific": network.n_experts, "n_shared": network.n_experts, "levels": levels, "towers": list(network.tower)}


def matmul_flops(size: int = 1024, repeats: int = 20) -> float:
    """Floating-point operations a second of square float32 products, the machine's practical peak."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    out = torch.empty(size, size)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="which comparisons; all by default")


if __name__ == "__main__":
    main()
