"""Soft sharing: single_task + lambda sum_{k<l} d(theta_k, theta_l), d over the hidden weights (Duong et al., ACL 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.errors import ConfigError
from ranker.experts import BatchedLinear
from ranker.inputs import Parts
from ranker.models.base import Notes
from ranker.models.single_task import SingleTask


class SoftSharing(SingleTask):
    """Networks of their own, pulled towards one another; options: `hidden`, `strength` (lambda), `distance` (`l2` or `l1`)."""

    def build(self, hidden: Sequence[int] = (128, 64), strength: float = 1e-4, distance: str = "l2") -> int:
        """The single-task bodies."""
        if distance not in ("l2", "l1"):
            raise ConfigError(f"distance {distance!r} is not one of l2 (squared), l1")
        self.strength, self.distance = strength, distance
        return super().build(hidden)

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """f^k(x^k), `(K, B, H)`."""
        if self.training and self.strength and self.n_tasks > 1:
            notes.aux.append(self.strength * self.penalty())
        return super().represent(parts, notes)

    def penalty(self) -> Tensor:
        """sum_{k<l} d(theta_k, theta_l)."""
        k = self.n_tasks
        first = self.bodies.first
        columns = first.masked.view(-1, k, first.n_out // k).transpose(0, 1)  # (K, D, H1): each task's, 0 where it does not read
        assert first.mask is not None
        reads = first.mask.view(-1, k, first.n_out // k).transpose(0, 1) > 0  # (K, D, H1)
        weights = [columns[reads].view(k, -1)]  # every task reads as many numbers, in the same order of features
        weights += [layer.weight.reshape(k, -1) for layer in self.bodies.rest.layers if isinstance(layer, BatchedLinear)]
        theta = torch.cat(weights, 1)  # (K, P)
        if self.distance == "l1":
            return torch.cdist(theta, theta, p=1).sum() / 2
        return k * theta.square().sum() - theta.sum(0).square().sum()  # sum_{k<l} |a - b|^2 = K sum |a|^2 - |sum a|^2
