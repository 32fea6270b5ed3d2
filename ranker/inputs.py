"""The input block: embeddings, numbers and pooled lists become one vector a side, for a joint batch or split by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.encoder import Layout, id_order
from ranker.features import SIDES, Feature, Side


@dataclass(slots=True)
class Rows:
    """One side of n rows as tensors: ids `(n, F)`, numbers `(n, D)`, lists `(n, L)` of table rows with 0 as padding."""

    ids: Tensor
    dense: Tensor
    lists: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class SequenceInput:
    """An unpooled list: entries `(n, L, d)` and which of them are real `(n, L)`."""

    values: Tensor
    mask: Tensor
    ids: Tensor


@dataclass(slots=True)
class Parts:
    """The embedded input, in split form.

    Args:
        context: User and request part, `(1, Dc)` when one user meets many items, else `(B, Dc)`.
        item: Item part `(B, Di)`.
        sequences: Lists left to the model, of `context`'s rows (user, request) or of `item`'s rows.
        projected: The item part of every first layer, by the layer's place, when it was computed beforehand.
        ids: Rows of the features an architecture watches, `(1 or B,)`, counted from 0 within the feature.
    """

    context: Tensor
    item: Tensor
    sequences: Mapping[str, SequenceInput] = field(default_factory=dict)
    projected: Mapping[int, Tensor] | None = None
    ids: Mapping[str, Tensor] = field(default_factory=dict)
    _x: Tensor | None = None

    @property
    def split(self) -> bool:
        """Whether one context row serves many items."""
        return self.context.shape[0] != self.item.shape[0] or self.projected is not None

    @property
    def x(self) -> Tensor:
        """The joint input `(B, Dc + Di)`; context rows are repeated when there is one for all."""
        if self._x is None:
            n = self.item.shape[0]
            context = self.context if self.context.shape[0] == n else self.context.expand(n, -1)
            self._x = torch.cat([context, self.item], 1) if self.item.shape[1] else context  # (B, D)
        return self._x


class InputLinear(nn.Module):
    """A linear layer on the input, `x W + b`, that computes the user part once a request and the item part ahead of time.

    x W = context W[:Dc] + item W[Dc:], so in split form only one context row is multiplied.
    """

    mask: Tensor | None

    def __init__(self, n_context: int, n_item: int, n_out: int, *, mask: Tensor | None = None) -> None:
        """`mask` `(Dc + Di, n_out)` fixes some weights at zero, so that an output reads only its own inputs."""
        super().__init__()
        self.n_context, self.n_item, self.n_out = n_context, n_item, n_out
        self.register_buffer("mask", mask, persistent=False)
        self.place = -1  # its place among the model's first layers; the model numbers them
        self.weight = nn.Parameter(torch.empty(n_context + n_item, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.kaiming_uniform_(self.weight.T, a=5**0.5)

    def forward(self, parts: Parts) -> Tensor:
        """`(B, n_out)`."""
        if not parts.split:
            return torch.addmm(self.bias, parts.x, self.masked)
        context = torch.addmm(self.bias, parts.context, self.masked[: self.n_context])  # (1, out)
        item = parts.projected[self.place] if parts.projected is not None else self.project(parts.item)
        return context + item

    def project(self, item: Tensor) -> Tensor:
        """The item part alone, `(n, n_out)`."""
        return item @ self.masked[self.n_context :]

    @property
    def masked(self) -> Tensor:
        """The weights in use, `(Dc + Di, n_out)`."""
        return self.weight if self.mask is None else self.weight * self.mask


class LookUp(torch.autograd.Function):
    """Embedding rows whose gradient is one `index_add_` (four times faster than the library's) or sparse."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, sparse: bool) -> Tensor:
        """`weight[ids]`."""
        ctx.save_for_backward(ids)
        ctx.shape, ctx.sparse = weight.shape, sparse
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Rows met several times add up."""
        (ids,) = ctx.saved_tensors
        flat, rows = ids.reshape(-1).long(), gradients[0].reshape(-1, ctx.shape[1])  # 32-bit indices add three times as slowly
        if ctx.sparse:
            real = flat > 0
            index = flat[real][None]  # (1, entries)
            return torch.sparse_coo_tensor(index, rows[real], ctx.shape, check_invariants=False), None, None
        gradient = rows.new_zeros(ctx.shape).index_add_(0, flat, rows)
        gradient[0] = 0
        return gradient, None, None


class InputBlock(nn.Module):
    """Embedding tables and the walk from rows to `Parts`."""

    def __init__(self, layout: Layout, *, scale: float = 0.01) -> None:
        super().__init__()
        self.layout = layout
        self.tables = nn.ModuleDict(
            {str(dim): nn.Embedding(rows, dim, padding_idx=0) for dim, rows in sorted(layout.tables.items())}
        )
        for table in self.tables.values():
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=scale)
            with torch.no_grad():
                table.weight[0] = 0
        self.n_context = layout.width("user") + layout.width("request")
        self.n_item = layout.width("item")
        self.sparse = False  # whether tables get sparse gradients; the training loop decides by their size
        self._runs = {side: _runs(layout.sparse[side]) for side in SIDES}
        self._joint = _joint(layout)
        self._watched: dict[Side, dict[str, int]] = {}

    def watch(self, name: str) -> int:
        """Hand this sparse feature's ids to the architecture, in `Parts.ids`; returns how many there are.

        Raises:
            ConfigError: It is no sparse feature.
        """
        for side in SIDES:
            for at, feature in enumerate(self.layout.sparse[side]):
                if feature.name == name:
                    self._watched.setdefault(side, {})[name] = at
                    return self.layout.rows[name]
        found = ", ".join(f.name for side in SIDES for f in self.layout.sparse[side])
        raise ConfigError(f"the model needs the sparse feature {name!r}; sparse features are {found}")

    def watched(self, side: Side, ids: Tensor) -> dict[str, Tensor]:
        """The ids of one side's watched features, from that side's id columns `(n, F)`."""
        return {name: ids[:, at].long() - self.layout.offsets[name] for name, at in self._watched.get(side, {}).items()}

    def weight(self, dim: int) -> Tensor:
        """The table of one width, `(rows, dim)`."""
        table = self.tables[str(dim)]
        assert isinstance(table, nn.Embedding)
        return table.weight

    def look_up(self, ids: Tensor, dim: int) -> Tensor:
        """Rows of one table, `(..., dim)`; the padding row 0 gets no gradient."""
        weight = self.weight(dim)
        if not (self.training and torch.is_grad_enabled()):
            return F.embedding(ids, weight)
        apply: Callable[..., Tensor] = LookUp.apply
        return apply(weight, ids, self.sparse)

    def forward(self, user: Rows, request: Rows, item: Rows) -> Parts:
        """Embed a batch; the three sides have B rows each, or user and request one row."""
        sequences: dict[str, SequenceInput] = {}
        context = torch.cat([self.side("user", user, sequences), self.side("request", request, sequences)], 1)
        watched = self.watched("user", user.ids) | self.watched("request", request.ids) | self.watched("item", item.ids)
        return Parts(context, self.side("item", item, sequences), sequences, None, watched)

    def joint(self, ids: Tensor, dense: Tensor, lists: Mapping[str, Tensor], share: Share | None = None) -> Parts:
        """Embed a batch of all sides with one lookup a table; the columns are those of `Batch`.

        Args:
            share: Only this share of every embedding, where several networks' stand side by side.
        """
        n = ids.shape[0]
        embedded: dict[tuple[Side, int], Tensor] = {}
        for table, start, stop, shares in self._joint:
            flat = own(self.look_up(ids[:, start:stop], table), share)  # (n, F, dim)
            dim = flat.shape[2]
            flat = flat.reshape(n, (stop - start) * dim)
            for side, a, b in shares:
                embedded[side, table] = flat[:, a * dim : b * dim]
        sequences: dict[str, SequenceInput] = {}
        pieces: list[Tensor] = []
        at = n_context = 0
        for side in SIDES:
            if side == "item":
                n_context = sum(piece.shape[1] for piece in pieces)
            pieces += [embedded[side, dim] for dim, _, _ in self._runs[side]]
            pieces += self._lists(side, lists, sequences, share)
            width = self.layout.n_dense(side)
            if width:
                pieces.append(dense[:, at : at + width])
                at += width
        x = torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0]  # (B, D)
        watched = {
            name: ids[:, at].long() - self.layout.offsets[name]
            for at, (side, place) in enumerate(id_order(self.layout) if self._watched else ())
            for name, wanted in self._watched.get(side, {}).items()
            if wanted == place
        }
        return Parts(x[:, :n_context], x[:, n_context:], sequences, None, watched, x)

    def side(self, side: Side, rows: Rows, sequences: dict[str, SequenceInput]) -> Tensor:
        """One side's vector `(n, D_side)`: ids by width, pooled lists, numbers; unpooled lists go to `sequences`."""
        n = rows.ids.shape[0]
        pieces = []
        for dim, start, stop in self._runs[side]:
            ids = rows.ids if stop - start == rows.ids.shape[1] else rows.ids[:, start:stop]
            pieces.append(F.embedding(ids, self.weight(dim)).view(n, (stop - start) * dim))  # (n, F * dim)
        pieces += self._lists(side, rows.lists, sequences)
        if rows.dense.shape[1]:
            pieces.append(rows.dense)
        if not pieces:
            return rows.dense
        return torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0]  # (n, D_side)

    def sequences(self, side: Side, lists: Mapping[str, Tensor], found: dict[str, SequenceInput]) -> None:
        """Embed one side's unpooled lists into `found`."""
        for feature in self.layout.lists[side]:
            if feature.pooling == "none":
                ids = lists[feature.name]
                found[feature.name] = SequenceInput(F.embedding(ids, self.weight(feature.dim)), ids > 0, ids)

    def _lists(
        self, side: Side, lists: Mapping[str, Tensor], sequences: dict[str, SequenceInput], share: Share | None = None
    ) -> list[Tensor]:
        pieces = []
        for feature in self.layout.lists[side]:
            ids = lists[feature.name]
            entries = own(self.look_up(ids, feature.dim), share)  # (n, L, dim)
            if feature.pooling == "none":
                sequences[feature.name] = SequenceInput(entries, ids > 0, ids)
                continue
            pooled = entries.sum(1)  # (n, dim): padding rows are zero
            if feature.pooling == "mean":
                pooled = pooled / (ids > 0).sum(1, keepdim=True).clamp(min=1)
            pieces.append(pooled)
        return pieces

    def width(self, name: str) -> int:
        """Width of one feature's embedding here, which an architecture may have changed."""
        features = [f for side in SIDES for f in (*self.layout.sparse[side], *self.layout.lists[side])]
        return next(f.dim for f in features if f.name == name)


Share = tuple[int, int]  # which of how many


def own(embedding: Tensor, share: Share | None) -> Tensor:
    """One share of embeddings that hold several networks' side by side.

    >>> own(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), (1, 2)).tolist()
    [[3.0, 4.0]]
    """
    if share is None:
        return embedding
    which, of = share
    width = embedding.shape[-1] // of
    return embedding[..., which * width : (which + 1) * width]


def _runs(features: tuple[Feature, ...]) -> list[tuple[int, int, int]]:
    """(dim, start, stop) of neighbouring id columns that share a table."""
    runs: list[tuple[int, int, int]] = []
    for at, feature in enumerate(features):
        if runs and runs[-1][0] == feature.dim:
            runs[-1] = (feature.dim, runs[-1][1], at + 1)
        else:
            runs.append((feature.dim, at, at + 1))
    return runs


def _joint(layout: Layout) -> list[tuple[int, int, int, list[tuple[Side, int, int]]]]:
    """For each table: its width, its id columns in a batch (start, stop), and which of those (from, to) belong to which side."""
    plan: list[tuple[int, int, int, list[tuple[Side, int, int]]]] = []
    order = [(layout.sparse[side][at].dim, side) for side, at in id_order(layout)]
    for dim in sorted({dim for dim, _ in order}):
        start = next(at for at, (d, _) in enumerate(order) if d == dim)
        sides = [side for d, side in order if d == dim]
        shares = [(side, sides.index(side), sides.index(side) + sides.count(side)) for side in SIDES if side in sides]
        plan.append((dim, start, start + len(sides), shares))
    return plan
