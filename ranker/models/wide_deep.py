"""Wide & deep: logit_k = wide_k(x, crosses) + t^k(f(x)), trained together (Cheng et al., DLRS 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.experts import InputExperts
from ranker.features import SIDES
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.wide import WidePart, n_weights


class WideDeep(MultiTaskModel):
    """Shared bottom beside logistic regression; options: `hidden`, `crosses`, `cross_rows`.

    An id's row holds its embedding and then its weights; a fixed zero mask keeps the weights out of the deep part.
    """

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """Embeddings longer by the weights."""
        return layout.resized(lambda dim: dim + n_weights(tasks))

    def build(self, hidden: Sequence[int] = (128, 64), crosses: Sequence[Sequence[str]] = (), cross_rows: int = 100_000) -> int:
        """The bottom and the weights."""
        c = n_weights(self.tasks)
        deep: list[bool] = []
        for side in SIDES:
            deep += [at < f.dim - c for f in self.layout.embedded(side) for at in range(f.dim)]
            deep += [True] * self.layout.n_dense(side)
        mask = torch.tensor(deep).float()[:, None].expand(-1, hidden[0]).contiguous()  # (D, H1)
        self.bottom = InputExperts(1, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm, mask=mask)
        self.wide = WidePart(self, None, crosses, cross_rows)
        return self.bottom.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """The deep part, `(1, B, H)`."""
        h: Tensor = self.bottom(parts)
        return h

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Both parts' logits added."""
        logits, other = super().item_logits(parts, notes)
        wide, wide_other = self.wide.split(self.wide(parts))
        return logits + wide, {name: other[name] + wide_other[name] for name in other}

    def shared_layers(self) -> list[nn.Module]:
        """The bottom's layers."""
        return [self.bottom.first, *self.bottom.rest.layers]
