"""d3rlpy's BCQ takes updates when told to: its own replay buffer, batches and loop, in its own environment."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
import torch

from bench.peers.protocol import serve

state: dict[str, Any] = {}


def build(*, data: str, hidden: list[int], batch_size: int, n_samples: int, rho: float, threads: int) -> dict[str, Any]:
    """Load the columns, make the algorithm with the same networks, and its replay buffer."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    d3rlpy = import_module("d3rlpy")
    with np.load(data) as file:
        columns = {name: file[name] for name in file.files}
    dataset = d3rlpy.dataset.MDPDataset(
        observations=columns["obs"],
        actions=columns["action"],
        rewards=columns["reward"][:, None],
        terminals=columns["terminated"].astype(np.float32),
        timeouts=columns["timeout"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )
    encoder = d3rlpy.models.VectorEncoderFactory(list(hidden))
    config = d3rlpy.algos.BCQConfig(
        batch_size=batch_size,
        n_action_samples=n_samples,
        action_flexibility=rho,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        imitator_encoder_factory=encoder,
        n_critics=2,
        update_actor_interval=1,
        rl_start_step=0,
    )
    algorithm = config.create(device="cpu:0")
    algorithm.build_with_dataset(dataset)
    state.update(algorithm=algorithm, dataset=dataset, batch_size=batch_size)
    return {"version": d3rlpy.__version__}


def updates(*, n: int) -> dict[str, Any]:
    """Draw a batch and update, `n` times; seconds, as d3rlpy's own `fit` does it but without its logger."""
    algorithm, dataset = state["algorithm"], state["dataset"]
    start = time.perf_counter()
    for _ in range(n):
        algorithm.update(dataset.sample_transition_batch(state["batch_size"]))
    return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    serve({"build": build, "updates": updates})
