"""Training on Parquet larger than memory: a few row groups at a time, shuffled among one another, encoded as they come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from core.arrays import AnyArray, Ints
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from ranker.batches import Batch, concatenated, dropped, dropping, pack
from ranker.config import TrainConfig
from ranker.encoder import Encoder, open_lists
from ranker.features import FeatureSpec
from ranker.targets import Scale
from ranker.train import Trained, Watch, fit, fit_scales
from ranker.vocabulary import Vocabulary, as_keys

CHUNK = 262_144  # rows held and shuffled at once
SAMPLE = 1_000_000  # rows that statistics of numbers are taken from


class ParquetRows:
    """Row groups of one Parquet file or of a folder of them, read one at a time.

    Raises:
        DataError: There is no such file, or it holds no rows.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        source = Path(path)
        files = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not files or not all(file.is_file() for file in files):
            raise DataError(f"no Parquet file at {str(source)!r}; give a .parquet file or a folder of them")
        self.columns = list(dict.fromkeys(columns))
        self.groups: list[tuple[Path, int, int]] = []
        for file in files:
            about = pq.ParquetFile(file)
            missing = sorted(set(self.columns) - set(about.schema_arrow.names))
            if missing:
                raise DataError(f"no column {missing[0]!r} in {file.name}; columns are {', '.join(about.schema_arrow.names)}")
            sizes = [about.metadata.row_group(i).num_rows for i in range(about.num_row_groups)]
            self.groups += [(file, i, size) for i, size in enumerate(sizes)]
        self.n_rows = sum(size for _, _, size in self.groups)
        if self.n_rows == 0:
            raise DataError(f"{str(source)!r} is empty; a log needs at least one impression")

    def read(self, group: int) -> LoggedDataset:
        """One row group."""
        file, index, _ = self.groups[group]
        return LoggedDataset.from_arrow(pq.ParquetFile(file).read_row_group(index, columns=self.columns))

    def fingerprint(self) -> str:
        """A sha256 over file names, sizes and row groups' statistics: cheap, and different for different data."""
        digest = hashlib.sha256(",".join(self.columns).encode())
        for file in dict.fromkeys(file for file, _, _ in self.groups):
            digest.update(f"{file.name}:{file.stat().st_size};{pq.ParquetFile(file).metadata.to_dict()}".encode())
        return digest.hexdigest()


class ParquetBatches:
    """Batches of a stream: row groups in an order that the seed decides, `chunk` rows mixed at once.

    At most `chunk` rows and one row group are in memory. Rows of far apart groups do not meet in one batch, so a
    file sorted by time should be written in row groups that are small against `chunk`.
    """

    def __init__(self, rows: ParquetRows, encoder: Encoder, scales: Mapping[str, Scale], *, chunk: int = CHUNK) -> None:
        self.rows, self.encoder, self.scales, self.chunk = rows, encoder, dict(scales), chunk
        self.n_rows = rows.n_rows
        self.drop = dropping(encoder.layout)

    def steps(self, batch_size: int) -> int:
        """Full batches and a smaller last one."""
        return -(-self.n_rows // batch_size)

    def epoch(self, seed: int, batch_size: int) -> Iterator[Batch]:
        """Every row once."""
        if batch_size > self.chunk:
            raise ConfigError(f"batch_size {batch_size} must not exceed the stream's chunk of {self.chunk} rows")
        generator = torch.Generator().manual_seed(seed)
        held: list[Batch] = []
        n_held = 0
        order = torch.randperm(len(self.rows.groups), generator=generator).tolist()
        for place, group in enumerate(order):
            for part in _pieces(pack(self.encoder, self.rows.read(group), self.scales), self.chunk):
                held.append(part)
                n_held += len(part)
                last = place == len(order) - 1
                if n_held >= self.chunk and not last:
                    mixed = _mix(held, generator)
                    whole = n_held // batch_size * batch_size
                    yield from self._cut(mixed, whole, batch_size, generator)
                    held, n_held = [mixed.take(torch.arange(whole, n_held))], n_held - whole
        if n_held:
            yield from self._cut(_mix(held, generator), n_held, batch_size, generator)

    def _cut(self, rows: Batch, stop: int, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        for start in range(0, stop, batch_size):
            yield dropped(rows.slice(start, min(start + batch_size, stop)), self.drop, generator)


def fit_encoder(spec: FeatureSpec, rows: ParquetRows, *, sample: int = SAMPLE, seed: int = 0, progress: bool = True) -> Encoder:
    """Vocabularies counted over all rows, statistics of numbers from a sample of whole row groups."""
    order = np.random.default_rng(seed).permutation(len(rows.groups))
    some, n = [], 0
    for group in order:
        some.append(rows.read(int(group)))
        n += len(some[-1])
        if n >= sample:
            break
    first = LoggedDataset({name: np.concatenate([part[name] for part in some]) for name in some[0]})
    encoder = Encoder.fit(spec, first)
    counted = [f for f in spec.features if f.kind != "dense" and not f.bins and spec[f.shares or f.name].vocabulary == "fit"]
    counts: dict[str, tuple[AnyArray, Ints]] = {}
    for group in tqdm(range(len(rows.groups)), desc="vocabularies", disable=not progress or not counted):
        part = rows.read(group)
        for feature in counted:
            keys, missing = as_keys(open_lists(part[feature.column]))
            found = np.unique(keys if missing is None else keys[~missing], return_counts=True)
            owner = feature.shares or feature.name
            counts[owner] = _merge(counts[owner], found) if owner in counts else found
    learned = {name: Vocabulary.fit_counts(spec[name], *found) for name, found in counts.items()}
    return Encoder(spec, {**encoder.vocabularies, **learned}, encoder.numbers)


def train_stream(
    spec: FeatureSpec,
    model: str,
    *,
    path: str | Path,
    valid: LoggedDataset,
    config: TrainConfig | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    chunk: int = CHUNK,
    watch: Watch | None = None,
    progress: bool = True,
) -> Trained:
    """`train` for a file that does not fit into memory; the validation rows do.

    Args:
        path: A Parquet file, or a folder of them, of earlier rows only.
        chunk: Rows shuffled at once; memory grows with it.
        watch: As for `train`.
    """
    config = config or TrainConfig()
    spaces = [task.sample_space for task in spec.tasks if task.sample_space]
    rows = ParquetRows(path, [*spec.columns(), *spec.tasks.names, *spaces, *([spec.weight] if spec.weight else [])])
    valid.require(rows.columns)
    encoder = fit_encoder(spec, rows, seed=seed, progress=progress)
    scales = fit_scales(spec.tasks, rows.read(0), config)
    return fit(
        ParquetBatches(rows, encoder, scales, chunk=chunk),
        encoder,
        pack(encoder, valid, scales),
        valid,
        model=model,
        scales=scales,
        config=config,
        options=options,
        seed=seed,
        checkpoints=checkpoints,
        watch=watch,
        fingerprint=rows.fingerprint(),
        progress=progress,
    )


def _pieces(rows: Batch, size: int) -> Iterator[Batch]:
    for start in range(0, len(rows), size):
        yield rows.slice(start, start + size)


def _mix(parts: Sequence[Batch], generator: torch.Generator) -> Batch:
    joined = concatenated(parts)
    return joined.take(torch.randperm(len(joined), generator=generator))


def _merge(a: tuple[AnyArray, Ints], b: tuple[AnyArray, Ints]) -> tuple[AnyArray, Ints]:
    """Distinct ids of both with their counts added."""
    keys, index = np.unique(np.concatenate([a[0], b[0]]), return_inverse=True)
    return keys, np.bincount(index, weights=np.concatenate([a[1], b[1]])).astype(np.int64)
