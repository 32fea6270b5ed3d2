"""Each installed peer really trains or steps: its loss falls, its network has our size. Skipped where it is not installed."""

from pathlib import Path

import numpy as np
import pytest

from bench.harness import peer_python
from bench.peers.networks import NETWORKS, make_columns
from bench.peers.protocol import Worker


def worker(peer: str) -> Worker:
    python = peer_python(peer)
    if python is None:
        pytest.skip(f"peer {peer} is not installed; run `make peers`")
    return Worker(python, f"bench.peers.{peer}_worker", threads=1)


@pytest.fixture
def data(tmp_path: Path) -> str:
    path = tmp_path / "columns.npz"
    np.savez(path, allow_pickle=False, **make_columns(6_000, seed=0))
    return str(path)


@pytest.mark.parametrize(("peer", "name"), [("rechub", "small_mmoe"), ("rechub", "small_ple"), ("deepctr", "small_mmoe")])
def test_a_peer_trains_our_network(peer: str, name: str, data: str) -> None:
    with worker(peer) as child:
        built = child.call("build", data=data, network=NETWORKS[name].to_json(), threads=1)
        assert built["dense_parameters"] == pytest.approx(NETWORKS[name].dense_parameters, rel=0.01)
        losses = [child.call("epoch")["loss"] for _ in range(3)]
        assert losses[2] < losses[0]


def test_recsim_steps_and_ends_sessions() -> None:
    with worker("recsim") as child:
        child.call("build", n_candidates=10, page_size=3)
        answer = child.call("steps", n=300)
        assert answer["seconds"] > 0
        assert answer["sessions"] >= 1
