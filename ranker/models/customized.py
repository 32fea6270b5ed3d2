"""Customized sharing: y^k = t^k(combine(f^s(x), f^k(x))), a shared bottom and own ones, no gate (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes

COMBINES = ("concat", "sum", "mean")


class Customized(MultiTaskModel):
    """Options: `hidden`, `combine` (`concat`, `sum` or `mean`)."""

    def build(self, hidden: Sequence[int] = (128, 64), combine: str = "concat") -> int:
        """K own bottoms and the shared one as one stack."""
        if combine not in COMBINES:
            raise ConfigError(f"combine {combine!r} is not one of {', '.join(COMBINES)}")
        self.combine = combine
        self.bottoms = InputExperts(self.n_tasks + 1, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        return hidden[-1] * (2 if combine == "concat" else 1)

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Own and shared bottoms combined, `(K, B, H)` or `(K, B, 2H)`."""
        h = self.bottoms(parts)  # (K + 1, B, H)
        own, shared = h[:-1], h[-1:]
        if self.combine == "concat":
            return torch.cat([own, shared.expand_as(own)], -1)  # (K, B, 2H)
        combined: Tensor = own + shared if self.combine == "sum" else (own + shared) / 2
        return combined

    def shared_layers(self) -> list[nn.Module]:
        """The stack's layers; the shared bottom is its last block."""
        return [self.bottoms.first, *self.bottoms.rest.layers]
