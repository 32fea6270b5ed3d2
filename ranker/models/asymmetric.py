"""Asymmetric sharing: y^k = t^k(combine(f^k(x), f^l(x) for the tasks l that k reads)), a way only (Tang et al., RecSys 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.cross_stitch import stitch
from ranker.models.customized import COMBINES


class Asymmetric(MultiTaskModel):
    """Options: `reads` (tasks whose bottom a task reads, by task; by default the one declared before it), `hidden`, `combine`."""

    def build(
        self, reads: Mapping[str, Sequence[str]] | None = None, hidden: Sequence[int] = (128, 64), combine: str = "concat"
    ) -> int:
        """A bottom a task, and who reads whom."""
        if combine not in COMBINES:
            raise ConfigError(f"combine {combine!r} is not one of {', '.join(COMBINES)}")
        names = [task.name for task in self.item_tasks]
        given = dict(reads) if reads is not None else {b: [a] for a, b in pairwise(names)}
        for name in [*given, *(other for others in given.values() for other in others)]:
            if name not in names:
                raise ConfigError(f"reads: {name!r} is no item task; those are {', '.join(names)}")
        self.others = [[names.index(other) for other in given.get(name, ()) if other != name] for name in names]
        self.combine = combine
        self.bottoms = InputExperts(self.n_tasks, self.n_context, self.n_item, hidden, dropout=self.dropout, norm=self.norm)
        share = torch.eye(self.n_tasks)
        for task, others in enumerate(self.others):
            share[task, others] = 1
        self.register_buffer("share", share / share.sum(1, keepdim=True) if combine == "mean" else share, persistent=False)
        self.slots = max(len(others) for others in self.others)
        return hidden[-1] * (1 + self.slots if combine == "concat" else 1)

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Own bottom and the read ones combined, `(K, B, H)`; with `concat` a free slot is zero."""
        h = self.bottoms(parts)  # (K, B, H)
        if self.combine != "concat":
            assert isinstance(self.share, Tensor)
            return stitch(self.share, h)
        padded = torch.cat([h, torch.zeros_like(h[:1])])  # (K + 1, B, H), the last one empty
        columns = [h]
        for slot in range(self.slots):
            columns.append(padded[[others[slot] if slot < len(others) else self.n_tasks for others in self.others]])
        return torch.cat(columns, -1)  # (K, B, (1 + slots) H)

    def shared_layers(self) -> list[nn.Module]:
        """The bottoms' layers, when some task reads another's."""
        return [self.bottoms.first, *self.bottoms.rest.layers] if self.slots else []
