"""Heads: one tower a task on the representation the architecture made for it, and the link from logits to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core.tasks import TaskSet, TaskSpec
from ranker.experts import BatchedLinear, BatchedMLP


@dataclass(slots=True)
class Outputs:
    """What a model says, before the links.

    Args:
        logits: `(B, n_scored)`, item-level binary and regression tasks in the order of `tasks.scored`.
        other: Item-level multiclass `(B, C)` and user-level tasks `(B or 1, C)`, by task.
        aux: A loss of the architecture itself (orthogonality, load balance), added to the tasks'.
        inspect: What reports look at, such as gates `(B, K, E)`.
    """

    logits: Tensor
    other: Mapping[str, Tensor] = field(default_factory=dict)
    aux: Tensor | None = None
    inspect: Mapping[str, Tensor] = field(default_factory=dict)


class Towers(nn.Module):
    """Towers of K tasks as one batched MLP, and their last layers as one batched matmul."""

    def __init__(self, tasks: Sequence[TaskSpec], n_in: int, hidden: Sequence[int] = (32,), *, dropout: float = 0.0) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.mlp = BatchedMLP(len(tasks), n_in, hidden, dropout=dropout)
        self.out = BatchedLinear(len(tasks), self.mlp.n_out, max((n_outputs(task) for task in tasks), default=1))
        self.scored = [at for at, task in enumerate(self.tasks) if task.level == "item" and task.kind != "multiclass"]

    def forward(self, h: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """`(K, B, H)`, or `(1, B, H)` when all tasks read the same, to logits `(B, n_scored)` and the others by task."""
        if h.shape[0] != len(self.tasks):
            h = h.expand(len(self.tasks), -1, -1)
        out = self.out(self.mlp(h))  # (K, B, C)
        if len(self.scored) == len(self.tasks):
            return out[:, :, 0].T, {}
        other = {t.name: out[at, :, : n_outputs(t)] for at, t in enumerate(self.tasks) if at not in self.scored}
        return out[self.scored, :, 0].T, other


def n_outputs(task: TaskSpec) -> int:
    """Numbers a task's head gives: its classes, or one."""
    return task.n_classes or 1


def predict(tasks: TaskSet, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits to predictions: probabilities for binary and multiclass, the standardised value for regression."""
    scored = [tasks[name] for name in tasks.scored]
    if all(task.kind == "binary" for task in scored):
        values = torch.sigmoid(outputs.logits)
    else:
        binary = torch.tensor([task.kind == "binary" for task in scored])
        values = torch.where(binary, torch.sigmoid(outputs.logits), outputs.logits)
    other = {}
    for name, logits in outputs.other.items():
        kind = tasks[name].kind
        other[name] = torch.softmax(logits, -1) if kind == "multiclass" else torch.sigmoid(logits) if kind == "binary" else logits
    return values, other
