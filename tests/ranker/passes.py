"""One forward and backward pass of an architecture in training, for tests that two ways of computing it agree."""

import torch
from torch import Tensor

from ranker.checks import TASKS, Example
from ranker.models import make


def one_pass(name: str) -> list[Tensor]:
    """Its logits, and the gradient of every parameter; the same start, rows and dropout in every call."""
    torch.manual_seed(0)
    one = Example(lambda layout, tasks: make(name, layout, tasks, {}), TASKS)
    one.model.train()
    torch.manual_seed(1)
    outputs = one.model.run(one.rows)
    torch.autograd.backward(one.losses(outputs, one.rows.values, one.rows.weights).sum())
    return [outputs.logits.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in one.model.parameters())]
