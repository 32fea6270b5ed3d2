"""Masked losses: each task's mean over the rows of its own sample space; 0, never NaN, when a batch has none."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.heads import Outputs

REGRESSION = ("mse", "huber")


class TaskLosses:
    """L_k = sum_i w_ki loss_ki / sum_i w_ki, for all tasks at once.

    Args:
        tasks: Give each column its loss: cross-entropy for binary and multiclass, `regression` for the others.
        regression: `mse` or `huber`.
        total: Makes the weights' sums over the batch `(n,)` those over all workers' batches; itself where there is one worker.
    """

    def __init__(self, tasks: TaskSet, regression: str = "mse", total: Callable[[Tensor], Tensor] | None = None) -> None:
        if regression not in REGRESSION:
            raise ConfigError(f"regression loss {regression!r} is not one of {', '.join(REGRESSION)}")
        self.tasks, self.regression, self.total = tasks, regression, total or as_it_is
        self.scored = [at for at, task in enumerate(tasks) if task.name in tasks.scored]
        self.binary = [at for at, name in enumerate(tasks.scored) if tasks[name].kind == "binary"]
        self.numbers = [at for at, name in enumerate(tasks.scored) if tasks[name].kind == "regression"]
        self.other = [(at, task) for at, task in enumerate(tasks) if task.name not in tasks.scored]

    def __call__(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor:
        """Losses `(K,)` in task order, from targets and weights `(B, K)`."""
        everything = len(self.scored) == len(self.tasks)
        target, weight = (values, weights) if everything else (values[:, self.scored], weights[:, self.scored])
        rows = self.elementwise(outputs.logits, target)  # (B, n_scored)
        scored = (rows * weight).sum(0) / self.total(weight.sum(0)).clamp(min=1e-6)  # (n_scored,)
        if everything:
            return scored
        losses = scored.new_zeros(len(self.tasks)).index_put((torch.tensor(self.scored),), scored)
        for at, task in self.other:
            logits, w = outputs.other[task.name], weights[:, at]
            if task.kind == "multiclass":
                row = F.cross_entropy(logits, values[:, at].long(), reduction="none")
            elif task.kind == "binary":
                row = F.binary_cross_entropy_with_logits(logits[:, 0], values[:, at], reduction="none")
            else:
                row = self._distance(logits[:, 0], values[:, at])
            losses = losses.index_put((torch.tensor(at),), (row * w).sum() / self.total(w.sum()).clamp(min=1e-6))
        return losses

    def elementwise(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each row and scored task, `(B, n_scored)`."""
        if not self.numbers:
            return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        rows = torch.empty_like(logits)
        if self.binary:
            rows[:, self.binary] = F.binary_cross_entropy_with_logits(
                logits[:, self.binary], target[:, self.binary], reduction="none"
            )
        rows[:, self.numbers] = self._distance(logits[:, self.numbers], target[:, self.numbers])
        return rows

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = F.mse_loss if self.regression == "mse" else F.huber_loss
        return loss(prediction, target, reduction="none")


def as_it_is(weight: Tensor) -> Tensor:
    """What one worker's batch holds is all there is."""
    return weight
