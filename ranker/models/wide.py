"""Wide: logistic regression on all features and declared crosses, logit_k = w_k x + sum_c w_k,c(hash of the cross) + b_k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.features import SIDES
from ranker.heads import n_outputs
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes


class Wide(MultiTaskModel):
    """One weight an id and task; options: `crosses` (lists of sparse features), `cross_rows` (hashed rows a cross)."""

    towered = False

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """Each id's row holds its weights; widths stay different where they were, since features of one width share a table."""
        place = {dim: at for at, dim in enumerate(sorted(layout.tables))}
        return layout.resized(lambda dim: n_weights(tasks) + place[dim])

    def build(self, crosses: Sequence[Sequence[str]] = (), cross_rows: int = 100_000) -> int:
        """Weights of numbers and crosses; those of ids are the tables."""
        self.wide = WidePart(self, 0, crosses, cross_rows)
        return 0

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Nothing: there is no layer between the features and the logits."""
        raise ConfigError("wide has no representation to build on; choose another base")

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """The sums of weights."""
        return self.wide.split(self.wide(parts))


class WidePart(nn.Module):
    """Sums of weights: C columns of every embedding, from `skip` on or (None) the last ones, numbers, and hashed crosses."""

    def __init__(self, host: MultiTaskModel, skip: int | None, crosses: Sequence[Sequence[str]], cross_rows: int) -> None:
        super().__init__()
        layout, self.tasks = host.layout, host.item_tasks
        self.width = n_weights(host.tasks)
        blocks = {side: _blocks(layout, side, skip, self.width) for side in SIDES}
        context = [*blocks["user"], *(at + layout.width("user") for at in blocks["request"])]
        for name, starts in (("context", context), ("item", blocks["item"])):
            chosen = torch.tensor(starts, dtype=torch.long)[:, None] + torch.arange(self.width)
            self.register_buffer(f"of_{name}", chosen, persistent=False)  # (F, C): where each feature's weights lie
            sides = ("user", "request") if name == "context" else ("item",)
            self.register_buffer(f"numbers_{name}", torch.tensor(_numbers(layout, sides), dtype=torch.long), persistent=False)
        self.dense = nn.Parameter(torch.zeros(sum(layout.n_dense(side) for side in SIDES), self.width))
        self.bias = nn.Parameter(torch.zeros(self.width))
        self.crosses = [list(cross) for cross in crosses]
        for cross in self.crosses:
            if len(cross) < 2:
                raise ConfigError(f"cross {cross} needs at least two sparse features")
            for name in cross:
                host.inputs.watch(name)
        self.cross_rows = cross_rows
        self.table = nn.Embedding(cross_rows * len(self.crosses), self.width) if self.crosses else None
        if self.table is not None:
            nn.init.zeros_(self.table.weight)

    def forward(self, parts: Parts) -> Tensor:
        """`(B, C)`; the context's sum has one row in split form."""
        n_context = self.get_buffer("numbers_context").numel()
        total = self._side(parts.context, "context", self.dense[:n_context]) + self.bias
        total = total + self._side(parts.item, "item", self.dense[n_context:])  # (B, C)
        for at, cross in enumerate(self.crosses):
            assert self.table is not None
            code = parts.ids[cross[0]]
            for name in cross[1:]:
                code = code * 1_000_003 + parts.ids[name]
            mixed = code * 2_654_435_761
            row = torch.remainder(mixed ^ (mixed >> 29), self.cross_rows) + at * self.cross_rows  # (B,) or (1,)
            total = total + self.table(row)
        return total

    def split(self, total: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Columns to scored logits, and multiclass ones by task."""
        scored, other, at = [], {}, 0
        for task in self.tasks:
            n = n_outputs(task)
            if task.kind == "multiclass":
                other[task.name] = total[:, at : at + n]
            else:
                scored.append(at)
            at += n
        return total[:, scored], other

    def _side(self, x: Tensor, side: str, dense: Tensor) -> Tensor:
        index, numbers = self.get_buffer(f"of_{side}"), self.get_buffer(f"numbers_{side}")
        total = x.new_zeros(x.shape[0], self.width)
        if index.numel():
            total = total + x[:, index.flatten()].view(x.shape[0], *index.shape).sum(1)  # (B, F, C) to (B, C)
        return total + x[:, numbers] @ dense if numbers.numel() else total


def n_weights(tasks: TaskSet) -> int:
    """Outputs of all item-level tasks."""
    return sum(n_outputs(task) for task in tasks if task.level == "item")


def _blocks(layout: Layout, side: Any, skip: int | None, width: int) -> list[int]:
    """Where each embedding's weights start within its side's vector."""
    starts, at = [], 0
    for feature in layout.embedded(side):
        starts.append(at + (feature.dim - width if skip is None else skip))
        at += feature.dim
    return starts


def _numbers(layout: Layout, sides: Sequence[Any]) -> list[int]:
    """Where the numbers of some sides lie within their joined vector."""
    found, at = [], 0
    for side in sides:
        end = at + layout.width(side)
        found += list(range(end - layout.n_dense(side), end))
        at = end
    return found
