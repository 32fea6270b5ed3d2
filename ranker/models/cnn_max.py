"""CNN + max pooling: filters of widths 1 to 5 over the behaviour sequence, their maxima beside x in an MLP (DUPN's baseline)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.sequence import MaxConvolution, aligned, stacked, unpooled


class CNNMax(MultiTaskModel):
    """A shared bottom on [x, max pooled filters]; options: `sequences`, `filters` a width, `widths`, `hidden`."""

    grows = True

    def build(
        self,
        sequences: Sequence[str] | None = None,
        filters: int = 16,
        widths: Sequence[int] = (1, 2, 3, 4, 5),
        hidden: Sequence[int] = (128, 64),
    ) -> int:
        """The filters, which read the context alone, and the bottom."""
        items, properties = unpooled(self.layout)
        self.sequences = list(items + properties if sequences is None else sequences)
        if not self.sequences:
            raise ConfigError("cnn_max needs a user sequence with pooling: none")
        self.filters = MaxConvolution(aligned(self.layout, self.sequences), filters, widths)
        self.bottom = InputExperts(
            1, self.n_context + self.filters.n_out, self.n_item, hidden, dropout=self.dropout, norm=self.norm
        )
        return self.bottom.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """f([x, c]), `(1, B, H)`."""
        pooled = self.filters(*stacked(parts.sequences, self.sequences))  # (1 or B, C)
        context = torch.cat([parts.context, pooled], 1)  # (1 or B, Dc + C)
        h: Tensor = self.bottom(Parts(context, parts.item, {}, parts.projected))
        return h

    def shared_layers(self) -> list[nn.Module]:
        """The bottom's layers."""
        return [self.bottom.first, *self.bottom.rest.layers]
