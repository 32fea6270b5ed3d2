"""The speed bench compares what it says: our networks have the stated size, and absent peers give null."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from bench import ranker_speed, stream_worker
from bench.peers.networks import NETWORKS, make_columns
from core.logs import LoggedDataset
from ranker import models
from ranker.encoder import Encoder


@pytest.mark.parametrize("name", NETWORKS)
def test_our_network_has_the_stated_parameters(name: str) -> None:
    network, spec = NETWORKS[name], ranker_speed.feature_spec()
    layout = Encoder.fit(spec, LoggedDataset(make_columns(50, seed=0))).layout
    model = models.make(network.model, layout, spec.tasks, ranker_speed.options(network))
    dense = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.inputs.parameters())
    assert dense == network.dense_parameters


def test_without_peers_every_ratio_is_null_and_ours_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranker_speed, "_rows", lambda quick: {"small": 3_000, "large": 1_100})
    monkeypatch.setattr(ranker_speed, "THREADS", 1)
    monkeypatch.setattr(ranker_speed, "ROUNDS", 1)
    monkeypatch.setattr(ranker_speed, "_memory", lambda bench: None)
    out = io.StringIO()
    with redirect_stdout(out):
        ranker_speed.main(["--quick"])
    figures = json.loads(out.getvalue().splitlines()[-1])["figures"]
    assert [name for name in figures if "_vs_" in name and figures[name] is not None] == []
    assert figures["samples_per_s_small_mmoe"] > 100
    assert 0 < figures["large_mmoe_flops_share"] < 2
    assert figures["rss_10m_rows_mb"] is None


def test_a_streamed_run_says_what_it_took(tmp_path: Path) -> None:
    answer = stream_worker.main(["20000", str(tmp_path)])
    assert answer["rows"] == pq.ParquetFile(tmp_path / "log.parquet").metadata.num_rows == 20_000
    assert answer["peak_mb"] >= answer["before_mb"] > 50
    assert answer["click_auc"] > 0.52  # five steps learn a little of the truth


def test_the_matmul_peak_is_a_plausible_rate() -> None:
    assert 1e8 < ranker_speed.matmul_flops(128, 3) < 1e15
    assert np.isfinite(ranker_speed.matmul_flops(64, 1))
