"""Heads: one tower a task on the representation the architecture made for it, and the link from logits to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        members: What each network of an ensemble says, for losses of its own.
    """

    logits: Tensor
    other: Mapping[str, Tensor] = field(default_factory=dict)
    aux: Tensor | None = None
    inspect: Mapping[str, Tensor] = field(default_factory=dict)
    members: Sequence[Outputs] = ()

    def float(self) -> Outputs:
        """Logits in float32, as losses need them after bfloat16 products."""
        other = {name: logits.float() for name, logits in self.other.items()}
        return replace(self, logits=self.logits.float(), other=other)


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


def mean_of(tasks: TaskSet, members: Sequence[Outputs]) -> Outputs:
    """The outputs whose predictions are the mean of the members' predictions, so that calibrated members stay calibrated.

    A regression task's are the mean of standardised values: of logarithms where its label is learned `log1p`.

    >>> from core.tasks import TaskSpec
    >>> two = [Outputs(torch.logit(torch.tensor([[p]]))) for p in (0.25, 0.75)]
    >>> predict(TaskSet([TaskSpec("click")]), mean_of(TaskSet([TaskSpec("click")]), two))[0].item()
    0.5
    """
    logits = torch.stack([one.logits for one in members])  # (M, B, S)
    kinds = [tasks[name].kind for name in tasks.scored]
    if all(kind == "binary" for kind in kinds):
        mean = mean_log_odds(logits)
    else:
        mean = torch.where(torch.tensor([kind == "binary" for kind in kinds]), mean_log_odds(logits), logits.mean(0))
    other = {}
    for name in members[0].other:
        each, kind = torch.stack([one.other[name] for one in members]), tasks[name].kind  # (M, B or 1, C)
        if kind == "multiclass":
            other[name] = torch.logsumexp(F.log_softmax(each, -1), 0)  # a constant more than the logarithm of the mean
        else:
            other[name] = mean_log_odds(each) if kind == "binary" else each.mean(0)
    return Outputs(mean, other, mean_aux(members), members[0].inspect, members)


def stacked(members: Sequence[Outputs]) -> Outputs:
    """The outputs of rows of which each member had its own, one member's after another's."""
    other = {name: torch.cat([one.other[name] for one in members]) for name in members[0].other}
    return Outputs(torch.cat([one.logits for one in members]), other, mean_aux(members), members=members)


def mean_aux(members: Sequence[Outputs]) -> Tensor | None:
    """The mean of the members' own losses."""
    found = [one.aux for one in members if one.aux is not None]
    return sum(found[1:], found[0]) / len(members) if found else None


def mean_log_odds(logits: Tensor) -> Tensor:
    """Log odds of the mean probability over the first axis, exact where probabilities round to 0 or 1."""
    return torch.logsumexp(F.logsigmoid(logits), 0) - torch.logsumexp(F.logsigmoid(-logits), 0)
