"""Shared bottom: y^k = t^k(f(x)), hard sharing of embeddings and bottom layers (Caruana 1997)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ranker.experts import InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class SharedBottom(MultiTaskModel):
    """One bottom for all tasks; options: `hidden`."""

    grows = True

    def build(self, hidden: Sequence[int] = (128, 64)) -> int:
        """One MLP on the input."""
        self.bottom = InputExperts(1, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        return self.bottom.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """f(x), `(1, B, H)`."""
        h: Tensor = self.bottom(parts)
        return h

    def shared_layers(self) -> list[nn.Module]:
        """The bottom's layers."""
        return [self.bottom.first, *self.bottom.rest.layers]
