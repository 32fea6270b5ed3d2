"""Two Ray workers on two nodes make the model that one process makes of the same batches, and score as one process scores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from ranker.batches import Batch, ShardBatches, pack
from ranker.checks import TASKS, example_log, example_spec
from ranker.distributed import cluster, score_workers, train_workers
from ranker.encoder import Encoder
from ranker.train import TrainConfig, fit, fit_scales
from tests.ranker.together import Together, sources

SPEC = example_spec(TASKS)
CONFIG = TrainConfig(
    epochs=2,
    batch_size=50,
    learning_rate=0.01,
    patience=5,
    precision="float32",
    balance="gradnorm",
    ranking={"kind": "pairwise", "group": "user_id"},
)
TRAIN, VALID = example_log(401, 0), example_log(120, 1)


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster of three nodes with one CPU each: two workers cannot share one."""
    nodes: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        yield nodes.address
    finally:
        nodes.shutdown()


@pytest.mark.timeout(1200)  # three processes import torch and Ray anew, which a busy machine makes last
def test_two_workers_make_the_model_of_one_process(address: str, tmp_path: Path) -> None:
    """Nine batches an epoch, likes on clicked rows only, rows of a user compared: both workers sum to one batch."""
    two = train_workers(
        SPEC, "mmoe", train=TRAIN, valid=VALID, n_workers=2, address=address, config=CONFIG, checkpoints=tmp_path / "shared"
    )
    encoder = Encoder.fit(SPEC, TRAIN)
    scales = fit_scales(TASKS, TRAIN, CONFIG)
    source = Together(sources(SPEC, TASKS, TRAIN, CONFIG, 2))
    assert source.steps(50) == 9
    one = fit(source, encoder, pack(encoder, VALID, scales), VALID, model="mmoe", scales=scales, config=CONFIG, progress=False)
    for (name, p), q in zip(one.model.state_dict().items(), two.model.state_dict().values(), strict=True):
        assert torch.allclose(p, q, atol=1e-4), name
    for a, b in zip(one.history, two.history, strict=True):
        assert a["epoch"] == b["epoch"]
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], abs=1e-4)
    assert (tmp_path / "shared" / "checkpoint.pt").is_file()

    artefact = two.publish(ArtefactStore(tmp_path), "demo")
    scored = score_workers(artefact, VALID, n_workers=1, address=address, batch_size=16)
    wanted = two.predictor.predict(VALID)
    assert set(scored) - set(VALID) == {"score_click", "score_like", "score_watch_s"}
    for task in TASKS.names:
        assert np.allclose(scored[f"score_{task}"], wanted[task], atol=1e-5)
    assert not ray.is_initialized()  # left, and the cluster goes on
    with cluster(2, address):
        known: Any = ray
        assert [node["Alive"] for node in known.nodes()] == [True] * 3
        with cluster(2):
            pass
        assert ray.is_initialized()  # one that was joined before stays


def test_shards_hold_every_row_once_in_pieces_of_one_size() -> None:
    encoder = Encoder.fit(SPEC, TRAIN)
    rows = pack(encoder, TRAIN, fit_scales(TASKS, TRAIN, CONFIG))
    pieces: list[list[Batch]] = []
    for rank, (start, stop) in enumerate(((0, 200), (200, 401))):
        shard = ShardBatches(rows.slice(start, stop), None, n_total=401, rank=rank)
        pieces.append(list(shard.epoch(3, 50)))
        assert {len(piece) for piece in pieces[-1]} <= {22, 23}
    assert [len(piece) for piece in pieces] == [9, 9]
    seen = np.sort(np.concatenate([piece.values[:, 2].numpy() for part in pieces for piece in part]))
    assert np.array_equal(seen, np.sort(rows.values[:, 2].numpy()))


@pytest.mark.parametrize(
    ("config", "n_workers", "message"),
    [
        (TrainConfig(balance="gradnorm", alternate="scenario"), 2, "balance 'gradnorm' needs every task in each batch"),
        (TrainConfig(ranking={"group": "user_id"}), 10, "its 9 groups leave some of 10 workers without rows"),
        (TrainConfig(), 0, "0 workers must be at least 1"),
    ],
)
def test_what_workers_cannot_do_is_said_before_any_starts(config: TrainConfig, n_workers: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_workers(SPEC, "mmoe", train=TRAIN, valid=LoggedDataset(VALID.columns), n_workers=n_workers, config=config)
