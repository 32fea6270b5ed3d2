"""The same training loop in several Ray Train workers, each with its shard of the rows, and batch scoring by Ray Data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from ranker import models
from ranker.batches import concatenated, dropping, pack
from ranker.config import TrainConfig
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.predictor import CHUNK, Predictor
from ranker.scalars import Scalars
from ranker.shares import MARK, Shares, worker_batches
from ranker.targets import Scale, require_both_classes
from ranker.team import ALONE, Team
from ranker.train import Trained, check_alternation, fit, fit_scales

FILE = "trained.pt"
START_S = "600"  # a busy machine imports torch in more than the minute that Ray Train waits for its workers


@dataclass(frozen=True)
class Job:
    """What every worker is told."""

    model: str
    encoder: Encoder
    scales: Mapping[str, Scale]
    valid: LoggedDataset
    config: TrainConfig
    options: Mapping[str, Any]
    seed: int
    checkpoints: str | None
    tensorboard: str | None
    fingerprint: str
    totals: tuple[int, ...]
    threads: int


def train_workers(
    spec: FeatureSpec,
    model: str = "mmoe",
    *,
    train: LoggedDataset,
    valid: LoggedDataset,
    n_workers: int,
    address: str | None = None,
    config: TrainConfig | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    tensorboard: str | Path | None = None,
    threads: int = 1,
) -> Trained:
    """`ranker.train.train` in workers: each step all of them together take one batch of `config.batch_size`.

    Losses are sums over all workers' rows and gradients are summed, and what a balance compares are these sums, so the model is
    that of one process on the same batches. Rows that a ranking term compares are with one worker (`ranker.shares`).

    Args:
        n_workers: How many; each holds its share of the encoded rows.
        address: A running Ray cluster; a local one is started by default.
        checkpoints: A folder that every worker reaches; a lost worker costs at most an epoch, and a killed run goes on there.
        threads: torch threads of each worker.

    Raises:
        ConfigError: A setting is unknown or does not go with another, or some worker would have no rows.
    """
    config = config or TrainConfig()
    if n_workers < 1:
        raise ConfigError(f"{n_workers} workers must be at least 1")
    check_alternation(config)
    for part, log in (("train", train), ("valid", valid)):
        require_both_classes(log.require(spec.columns()), spec.tasks, part)
    encoder = Encoder.fit(spec, train)
    shares = Shares.of(train, spec.tasks, config, n_workers)
    job = Job(
        model,
        encoder,
        fit_scales(spec.tasks, train, config),
        valid,
        config,
        dict(options or {}),
        seed,
        str(Path(checkpoints).absolute()) if checkpoints else None,
        str(Path(tensorboard).absolute()) if tensorboard else None,
        train.fingerprint(),
        shares.totals,
        threads,
    )
    network = models.make(model, encoder.layout, spec.tasks, job.options)
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_S)
    with cluster(n_workers, address), tempfile.TemporaryDirectory() as scratch:
        needed = _needed(train, spec) if shares.mark is None else _needed(train, spec).with_columns({MARK: shares.mark})
        shards = ray.data.from_arrow(needed.take(shares.order).to_arrow()).split_at_indices(list(shares.cuts))
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": job, "shards": shards},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=n_workers, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(
                name=f"{model}-{seed}",
                storage_path=job.checkpoints or scratch,
                failure_config=FailureConfig(max_failures=2 if checkpoints else 0),
            ),
        )
        checkpoint = trainer.fit().checkpoint
        assert checkpoint is not None
        with checkpoint.as_directory() as folder:
            made = torch.load(Path(folder) / FILE, weights_only=True)
    network.load_state_dict(made["network"])
    network.eval()
    return Trained(
        model,
        job.options,
        encoder,
        network,
        job.scales,
        config,
        seed,
        made["history"],
        made["best_epoch"],
        made["metrics"],
        job.fingerprint,
    )


def _work(told: Mapping[str, Any]) -> None:
    """One worker: encode the shard, join the loop; the first worker hands the result back."""
    job: Job = told["job"]
    context = ray.train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(job.threads)
    shard = told["shards"][rank]
    tables = [LoggedDataset.from_arrow(table) for table in shard.iter_batches(batch_size=CHUNK * 4, batch_format="pyarrow")]
    rows = concatenated([pack(job.encoder, table, job.scales) for table in tables])
    mark = torch.from_numpy(np.concatenate([table[MARK] for table in tables])) if MARK in tables[0] else None
    trained = fit(
        worker_batches(rows, mark, job.totals, job.config, dropping(job.encoder.layout), rank),
        job.encoder,
        pack(job.encoder, job.valid, job.scales),
        job.valid,
        model=job.model,
        scales=job.scales,
        config=job.config,
        options=job.options,
        seed=job.seed,
        checkpoints=job.checkpoints,
        watch=Scalars(job.tensorboard) if job.tensorboard else None,
        fingerprint=f"{job.fingerprint} over {size} workers",
        team=Team.joined() if size > 1 else ALONE,
        progress=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        if rank == 0:
            made = {"network": trained.model.state_dict(), "history": trained.history, "best_epoch": trained.best_epoch}
            torch.save({**made, "metrics": trained.metrics}, Path(folder) / FILE)
        ray.train.report({}, checkpoint=Checkpoint.from_directory(folder) if rank == 0 else None)


def score_workers(
    artefact: Artefact, rows: LoggedDataset, *, n_workers: int, address: str | None = None, batch_size: int = CHUNK
) -> LoggedDataset:
    """The rows with a published ranker's predictions as `score_<task>`, computed by Ray Data in `n_workers` processes.

    Args:
        artefact: In a folder that every worker reaches.
    """
    place = "row_of_all"
    with cluster(n_workers, address):
        table = rows.with_columns({place: np.arange(len(rows))}).to_arrow()
        scored = scored_dataset(artefact, ray.data.from_arrow(table).repartition(4 * n_workers), n_workers, batch_size)
        kept = [place, *(SCORE + task for task in Predictor.load(artefact).scored)]
        parts = [LoggedDataset.from_arrow(pa.table(ray.get(ref))) for ref in scored.select_columns(kept).to_arrow_refs()]
    order = np.argsort(np.concatenate([part[place] for part in parts if len(part)]))
    return rows.with_columns({name: np.concatenate([part[name] for part in parts if len(part)])[order] for name in kept[1:]})


def scored_dataset(artefact: Artefact, rows: Any, n_workers: int, batch_size: int = CHUNK) -> Any:
    """A Ray Data set with `score_<task>` columns beside its own; it streams, so it may be larger than memory."""
    settings = {"root": str(artefact.path.parents[2].absolute()), "label": artefact.label}
    return rows.map_batches(
        _Scorer,
        fn_constructor_kwargs=settings,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=n_workers),
        num_cpus=1,
    )


class _Scorer:
    """An actor that holds the ranker."""

    def __init__(self, root: str, label: str) -> None:
        torch.set_num_threads(1)
        self.predictor = Predictor.load(ArtefactStore(root).find(label))

    def __call__(self, table: pa.Table) -> pa.Table:
        predictions = self.predictor.predict(LoggedDataset.from_arrow(table))
        for task in self.predictor.scored:
            table = table.append_column(SCORE + task, pa.array(np.asarray(predictions[task], np.float64)))
        return table


@contextmanager
def cluster(n_workers: int, address: str | None = None) -> Iterator[None]:
    """The Ray cluster at `address`, one that is already joined, or a local one that ends with the block."""
    mine = not ray.is_initialized()
    if mine and address:
        ray.init(address=address, log_to_driver=False)
    elif mine:
        ray.init(num_cpus=n_workers + 1, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        if mine:
            ray.shutdown()


def _needed(log: LoggedDataset, spec: FeatureSpec) -> LoggedDataset:
    """Only the columns that training reads."""
    spaces = [task.sample_space for task in spec.tasks if task.sample_space]
    names = dict.fromkeys([*spec.columns(), *spec.tasks.names, *spaces, *([spec.weight] if spec.weight else [])])
    return LoggedDataset({name: log[name] for name in names})
