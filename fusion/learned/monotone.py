"""Training a network over logit scores that cannot fall when an `up` score rises: no weight is negative, by construction.

Hidden units are half convex (softplus) and half concave (its mirror image), twice, so that sums of logarithms can be
represented; convex units alone cannot (Runje & Shankaranarayana, Constrained Monotonic Neural Networks, 2023).
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from core.errors import ConfigError, DataError
from core.tasks import TaskSet
from fusion.learned.network import MonotoneNetwork, network_inputs
from fusion.learned.rows import Rows


def train_monotone(
    rows: Rows,
    tasks: TaskSet,
    *,
    width: int = 16,
    n_steps: int = 1500,
    batch: int = 2048,
    learning_rate: float = 0.01,
    seed: int = 0,
    progress: bool = True,
) -> MonotoneNetwork:
    """Fit by the pairwise logistic loss: within a group, the row of higher relevance should have the higher final score.

    A pair counts with its difference in relevance. Rows are `labelled` or `distilled`; their score columns are `tasks.scored`.
    """
    if rows.scores.shape[1] != len(tasks.scored):
        raise ConfigError(f"rows hold {rows.scores.shape[1]} score columns; the tasks are {', '.join(tasks.scored)}")
    names = tasks.scored
    logit = [name for name in names if tasks[name].kind == "binary"]
    inputs = network_inputs(rows.scores, names, logit)
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    scale = 1.0 / np.where(spread > 0, spread, 1.0)
    sign = np.array([1.0 if tasks[name].goal == "up" else -1.0 for name in names])
    x = torch.from_numpy((inputs - mean) * scale * sign)
    relevance = torch.from_numpy(rows.relevance)
    group = np.repeat(np.arange(len(rows.groups) - 1), np.diff(rows.groups))
    start, size = rows.groups[:-1][group], np.diff(rows.groups)[group]
    rng = np.random.default_rng(seed)
    weights = _Weights(len(names), width, torch.Generator().manual_seed(seed))
    optimiser = torch.optim.Adam(weights.parameters(), lr=learning_rate)
    seen = 0
    for _ in tqdm(range(n_steps), desc="monotone network", disable=not progress):
        left = rng.integers(0, len(x), batch)
        right = start[left] + rng.integers(0, size[left])
        gap = relevance[left] - relevance[right]
        if not bool((gap != 0).any()):
            continue
        seen += 1
        difference = weights(x[left]) - weights(x[right])
        loss = (gap.abs() * torch.nn.functional.softplus(-difference * gap.sign())).sum() / gap.abs().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    if seen == 0:
        raise DataError("no group holds two rows of different relevance; the network has nothing to learn")
    arrays = {name: array.detach().numpy() for name, array in weights.positive().items()}
    return MonotoneNetwork(names, logit, {**arrays, "mean": mean, "scale": scale, "sign": sign})


class _Weights(torch.nn.Module):
    """The network while it learns: weights are softplus of free parameters."""

    def __init__(self, n_tasks: int, width: int, generator: torch.Generator) -> None:
        super().__init__()

        def free(*shape: int, shift: float) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.5 + shift)

        self.w1, self.b1 = free(n_tasks, width, shift=-1.0), free(width, shift=0.0)
        self.w2, self.b2 = free(width, width, shift=-2.5), free(width, shift=0.0)
        self.w3, self.skip = free(width, shift=-2.0), free(n_tasks, shift=-1.0)

    def positive(self) -> dict[str, torch.Tensor]:
        """All arrays, weights made non-negative."""
        softplus = torch.nn.functional.softplus
        free = {name: softplus(getattr(self, name)) for name in ("w1", "w2", "w3", "skip")}
        return {**free, "b1": self.b1, "b2": self.b2}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, T]` to `[n]`."""
        w = self.positive()
        hidden = _torch_two_sided(x @ w["w1"] + w["b1"])  # (n, H)
        hidden = _torch_two_sided(hidden @ w["w2"] + w["b2"])
        return hidden @ w["w3"] + x @ w["skip"]


def _torch_two_sided(z: torch.Tensor) -> torch.Tensor:
    half = z.shape[1] // 2
    softplus = torch.nn.functional.softplus
    return torch.cat([softplus(z[:, :half]), -softplus(-z[:, half:])], dim=1)
