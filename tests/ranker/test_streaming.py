"""A stream gives every row once an epoch, in an order the seed decides, and learns what the whole file in memory teaches."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.encoder import Encoder
from ranker.features import Feature, FeatureSpec
from ranker.streaming import ParquetBatches, ParquetRows, fit_encoder, train_stream
from ranker.train import train

SPEC = FeatureSpec(
    [Feature("user_id", side="user", min_count=2), Feature("item_id"), Feature("price", "dense")], TaskSet([TaskSpec("click")])
)


def log(n: int = 3000, seed: int = 0) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    item, price = rng.integers(0, 20, n), rng.normal(0, 1, n)
    click = (rng.random(n) < 1 / (1 + np.exp(-(item - 10) / 4 - price))).astype(int)
    return LoggedDataset({"user_id": rng.integers(0, 2000, n), "item_id": item, "price": price, "click": click})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    pq.write_table(log().to_arrow(), path, row_group_size=170)
    return path


def stream(file: Path, chunk: int) -> ParquetBatches:
    return ParquetBatches(ParquetRows(file, [*SPEC.columns(), "click"]), Encoder.fit(SPEC, log()), {}, chunk=chunk)


@pytest.mark.parametrize("chunk", [64, 500, 10_000])
def test_every_row_once_in_full_batches(file: Path, chunk: int) -> None:
    batches = list(stream(file, chunk).epoch(0, 64))
    assert [len(batch) for batch in batches] == [64] * 46 + [56]
    prices = np.concatenate([batch.dense[:, 0].numpy() for batch in batches])
    whole = Encoder.fit(SPEC, log()).encode("item", log().columns).dense[:, 0]
    assert np.array_equal(np.sort(prices), np.sort(whole))
    assert not np.array_equal(prices, whole)


def test_the_seed_decides_the_order(file: Path) -> None:
    a, b, c = (next(stream(file, 500).epoch(seed, 64)).ids for seed in (1, 1, 2))
    assert a.equal(b)
    assert not a.equal(c)


def test_vocabularies_count_the_whole_stream(file: Path) -> None:
    rows = ParquetRows(file, [*SPEC.columns(), "click"])
    streamed, whole = fit_encoder(SPEC, rows, sample=200, progress=False), Encoder.fit(SPEC, log())
    assert streamed.layout.tables == whole.layout.tables
    assert np.array_equal(streamed.encode("user", log().columns).ids, whole.encode("user", log().columns).ids)


def test_it_learns_as_in_memory(file: Path) -> None:
    config, valid = TrainConfig(epochs=3, batch_size=128, learning_rate=0.01), log(1500, seed=1)
    streamed = train_stream(SPEC, "shared_bottom", path=file, valid=valid, config=config, chunk=600, progress=False)
    whole = train(SPEC, "shared_bottom", train=log(), valid=valid, config=config, progress=False)
    assert streamed.metrics["click"]["auc"] == pytest.approx(whole.metrics["click"]["auc"], abs=0.01)


def test_what_cannot_stream_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Parquet file"):
        ParquetRows(tmp_path / "nothing.parquet", ["click"])
    with pytest.raises(DataError, match="no column 'age'"):
        ParquetRows(file, ["age"])
    with pytest.raises(ConfigError, match="must not exceed the stream's chunk of 32 rows"):
        next(stream(file, 32).epoch(0, 64))
