"""The networks and the data that a speed comparison gives to everybody alike; standard library and numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

VOCABULARIES = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 4_000, 4_000, 4_000)
N_DENSE = 4
EMBEDDING = 8
TASKS = ("click", "like")
BATCH = 1024
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Network:
    """One multi-task network; an expert and a tower are widths of hidden ReLU layers without normalisation.

    Args:
        model: `mmoe`, or `ple` with two levels.
        n_experts: MMoE's experts; for PLE the experts of each task, and also the shared ones.
    """

    model: Literal["mmoe", "ple"]
    n_experts: int
    expert: tuple[int, ...]
    tower: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, to send to a worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Network:
        """The inverse of `to_json`."""
        return cls(values["model"], values["n_experts"], tuple(values["expert"]), tuple(values["tower"]))

    @property
    def dense_parameters(self) -> int:
        """Weights and biases beside the embeddings (gates with bias, the last level of PLE without a shared gate).

        >>> NETWORKS["small_mmoe"].dense_parameters, NETWORKS["large_mmoe"].dense_parameters
        (22032, 973906)
        """
        tasks, width = len(TASKS), len(VOCABULARIES) * EMBEDDING + N_DENSE
        towers = tasks * _mlp(self.expert[-1], (*self.tower, 1))
        if self.model == "mmoe":
            return self.n_experts * _mlp(width, self.expert) + tasks * _mlp(width, (self.n_experts,)) + towers
        n_all, total = (tasks + 1) * self.n_experts, 0
        for level, inputs in enumerate((width, self.expert[-1])):
            shared_gate = _mlp(inputs, (n_all,)) if level == 0 else 0
            total += n_all * _mlp(inputs, self.expert) + tasks * _mlp(inputs, (2 * self.n_experts,)) + shared_gate
        return total + towers


def _mlp(inputs: int, widths: tuple[int, ...]) -> int:
    total = 0
    for width in widths:
        total, inputs = total + (inputs + 1) * width, width
    return total


NETWORKS = {
    "small_mmoe": Network("mmoe", 3, (48, 32), (32,)),
    "small_ple": Network("ple", 1, (48,), (8,)),
    "large_mmoe": Network("mmoe", 8, (512, 128), (128,)),
    "large_ple": Network("ple", 2, (352, 128), (64,)),
}


def make_columns(n_rows: int, *, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Columns `sparse_0..` (int64 ids), `dense_0..` (float32), and one 0/1 label a task, from a logistic truth.

    Returns:
        `[n_rows]` arrays. The labels depend on the ids and the dense columns, so a training run's loss must fall.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, npt.NDArray[Any]] = {}
    logit = np.zeros((n_rows, len(TASKS)))
    for i, size in enumerate(VOCABULARIES):
        ids = np.minimum(rng.zipf(1.3, n_rows) - 1, size - 1)
        effect = rng.normal(0, 0.4, (size, len(TASKS)))
        columns[f"sparse_{i}"] = ids.astype(np.int64)
        logit += effect[ids]
    for i in range(N_DENSE):
        value = rng.normal(size=n_rows).astype(np.float32)
        columns[f"dense_{i}"] = value
        logit += np.outer(value, rng.normal(0, 0.3, len(TASKS)))
    for k, task in enumerate(TASKS):
        columns[task] = (rng.random(n_rows) < 1 / (1 + np.exp(-(logit[:, k] - 1)))).astype(np.float32)
    return columns
