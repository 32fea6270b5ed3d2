"""torch-rechub trains one epoch when told to: its own DataLoader, trainer and models, in its own environment."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
import torch

from bench.peers.networks import BATCH, EMBEDDING, LEARNING_RATE, TASKS, VOCABULARIES, Network
from bench.peers.protocol import serve

state: dict[str, Any] = {}


def build(*, data: str, network: dict[str, Any], threads: int, as_shipped: bool = False, seed: int = 0) -> dict[str, Any]:
    """Load the columns into memory and make the model. `as_shipped` keeps the BatchNorm it puts into every layer."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    features = import_module("torch_rechub.basic.features")
    models = import_module("torch_rechub.models.multi_task")
    trainers = import_module("torch_rechub.trainers")
    net = Network.from_json(network)
    with np.load(data) as file:
        columns = {name: file[name] for name in file.files}
    inputs = [features.SparseFeature(f"sparse_{i}", size, embed_dim=EMBEDDING) for i, size in enumerate(VOCABULARIES)]
    inputs += [features.DenseFeature(name) for name in columns if name.startswith("dense_")]
    kinds = ["classification"] * len(TASKS)
    expert, towers = {"dims": list(net.expert)}, [{"dims": list(net.tower)} for _ in TASKS]
    if net.model == "mmoe":
        model = models.MMOE(inputs, kinds, net.n_experts, expert, towers)
    else:
        model = models.PLE(inputs, kinds, 2, net.n_experts, net.n_experts, expert, towers)
    if not as_shipped:
        _remove_batch_norm(model)
    optimizer = {"lr": LEARNING_RATE, "weight_decay": 0.0}
    state["trainer"] = trainers.MTLTrainer(model, kinds, optimizer_params=optimizer, n_epoch=1)
    state["y"] = np.stack([columns.pop(task) for task in TASKS], axis=1)
    state["x"] = columns
    state["generator"] = import_module("torch_rechub.utils.data").DataGenerator
    tables = sum(p.numel() for name, p in model.named_parameters() if "embed" in name)
    return {"dense_parameters": sum(p.numel() for p in model.parameters()) - tables}


def epoch() -> dict[str, Any]:
    """Columns in memory to a trained epoch: seconds, and the mean of the summed task losses over the epoch."""
    x, y = state["x"], state["y"]
    start = time.perf_counter()
    loaders = state["generator"](x, y).generate_dataloader(x, y, x, y, batch_size=BATCH)
    losses = state["trainer"].train_one_epoch(loaders[0])
    return {"seconds": time.perf_counter() - start, "loss": float(sum(losses))}


def _remove_batch_norm(module: Any) -> None:
    for name, child in module.named_children():
        if isinstance(child, torch.nn.BatchNorm1d):
            setattr(module, name, torch.nn.Identity())
        else:
            _remove_batch_norm(child)


if __name__ == "__main__":
    serve({"build": build, "epoch": epoch})
