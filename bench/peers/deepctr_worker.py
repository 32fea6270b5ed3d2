"""DeepCTR-Torch trains one epoch when told to: its own `fit` and models, in its own environment."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
import torch

from bench.peers.networks import BATCH, EMBEDDING, LEARNING_RATE, TASKS, VOCABULARIES, Network
from bench.peers.protocol import serve

state: dict[str, Any] = {}


def build(*, data: str, network: dict[str, Any], threads: int, seed: int = 0) -> dict[str, Any]:
    """Load the columns into memory and make the model (its gates and last layers have no bias)."""
    torch.set_num_threads(threads)
    inputs = import_module("deepctr_torch.inputs")
    models = import_module("deepctr_torch.models")
    net = Network.from_json(network)
    with np.load(data) as file:
        columns = {name: file[name] for name in file.files}
    features = [inputs.SparseFeat(f"sparse_{i}", size, embedding_dim=EMBEDDING) for i, size in enumerate(VOCABULARIES)]
    features += [inputs.DenseFeat(name, 1) for name in columns if name.startswith("dense_")]
    shape: dict[str, Any] = {
        "expert_dnn_hidden_units": net.expert,
        "gate_dnn_hidden_units": (),
        "tower_dnn_hidden_units": net.tower,
        "task_types": ["binary"] * len(TASKS),
        "task_names": list(TASKS),
        "l2_reg_linear": 0,
        "l2_reg_embedding": 0,
        "init_std": 0.05,
        "seed": seed,
    }
    if net.model == "mmoe":
        model = models.MMOE(features, num_experts=net.n_experts, **shape)
    else:
        model = models.PLE(features, shared_expert_num=net.n_experts, specific_expert_num=net.n_experts, num_levels=2, **shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.compile(optimizer, loss=["binary_crossentropy"] * len(TASKS), metrics=[])
    state["model"] = model
    state["y"] = np.stack([columns.pop(task) for task in TASKS], axis=1)
    state["x"] = columns
    tables = sum(p.numel() for name, p in model.named_parameters() if "embedding" in name or "linear_model" in name)
    return {"dense_parameters": sum(p.numel() for p in model.parameters()) - tables}


def epoch() -> dict[str, Any]:
    """Columns in memory to a trained epoch: seconds, and the mean of the summed task losses over the epoch."""
    start = time.perf_counter()
    history = state["model"].fit(dict(state["x"]), state["y"], batch_size=BATCH, epochs=1, verbose=0)
    return {"seconds": time.perf_counter() - start, "loss": float(history.history["loss"][-1])}


if __name__ == "__main__":
    serve({"build": build, "epoch": epoch})
