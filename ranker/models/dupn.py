"""DUPN: one user representation from a property-gated LSTM with attention, read by every task (Ni et al., KDD 2018).

rep_seq = sum_t a_t h_t, rep = MLP([rep_seq, user profile]); a task is an MLP on [rep, item], or weights over ranking features
made from rep alone (learning to rank), or, when it is user-level, a tower on rep (purchasing power).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.experts import BatchedMLP, InputExperts
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.sequence import AttentionPooling, PropertyGatedLSTM, aligned, stacked, unpooled

VARIANTS = ("nobp", "bplstm", "bpatt", "all", "w2v")


class DUPN(MultiTaskModel):
    """Behaviour = (item features, property), both sequences of the user that are left to the model.

    Options: `variant` (where properties are read: `nobp` nowhere, `bplstm` by the LSTM, `bpatt` by the attention, `all`; `w2v` is
    `all` with frozen item embeddings, see `ranker.pretrain`), `items`, `properties`, `n_hidden`, `n_attention`, `n_rep`,
    `hidden`, `reads` (by task, the only item features it reads, such as the author for a follow preference), `ranked` (tasks
    whose score is <weights(rep), the item's numbers>).
    """

    grows = True

    def build(
        self,
        variant: str = "all",
        items: Sequence[str] | None = None,
        properties: Sequence[str] | None = None,
        n_hidden: int = 128,
        n_attention: int = 64,
        n_rep: int = 256,
        hidden: Sequence[int] = (128, 64),
        reads: Mapping[str, Sequence[str]] | None = None,
        ranked: Sequence[str] = (),
    ) -> int:
        """The user part, which never reads the item, and the tasks' heads."""
        if variant not in VARIANTS:
            raise ConfigError(f"variant {variant!r} is not one of {', '.join(VARIANTS)}")
        default_items, default_properties = unpooled(self.layout)
        self.items = list(default_items if items is None else items)
        self.properties = list(default_properties if properties is None else properties)
        if not self.items:
            raise ConfigError("dupn needs a user sequence with pooling: none that shares the rows of an item feature")
        aligned(self.layout, [*self.items, *self.properties])
        n_item, n_property = aligned(self.layout, self.items), aligned(self.layout, self.properties)
        self.in_lstm = bool(n_property) and variant in ("bplstm", "all", "w2v")
        self.in_attention = bool(n_property) and variant in ("bpatt", "all", "w2v")
        self.lstm = PropertyGatedLSTM(n_item, n_property if self.in_lstm else 0, n_hidden)
        self.attention = AttentionPooling(n_hidden, n_property if self.in_attention else 0, self.n_context, n_attention)
        self.rep = BatchedMLP(1, n_hidden + self.n_context, [n_rep], dropout=self.dropout, norm=self.norm)
        mask = self._mask(dict(reads or {}), n_rep, hidden[0])
        self.heads = InputExperts(self.n_tasks, n_rep, self.n_item, hidden, dropout=self.dropout, norm=self.norm, mask=mask)
        self.ranked = self._columns(ranked)
        n_numbers = self.layout.n_dense("item")
        if self.ranked and not n_numbers:
            raise ConfigError(f"ranked = {list(ranked)}: learning to rank weighs the item's dense features; declare at least one")
        self.ranking = (
            nn.Sequential(nn.Linear(n_rep, 64), nn.ReLU(), nn.Linear(64, len(self.ranked) * (n_numbers + 1)))
            if self.ranked
            else None
        )
        if variant == "w2v":
            self._freeze()
        return self.heads.n_out

    def user(self, parts: Parts, notes: Notes) -> Tensor:
        """The shared user representation, `(1 or B, n_rep)`: all that a user part deployed on its own computes."""
        if "rep" in notes.inspect:
            return notes.inspect["rep"]
        items, mask = stacked(parts.sequences, self.items)  # (B, L, De), (B, L)
        properties = stacked(parts.sequences, self.properties)[0] if self.in_lstm or self.in_attention else None
        h = self.lstm(items, properties if self.in_lstm else None)  # (B, L, H)
        pooled, attention = self.attention(h, properties if self.in_attention else None, parts.context, mask)  # (B, H), (B, L)
        rep: Tensor = self.rep(torch.cat([pooled, parts.context], 1)[None])[0]  # (1 or B, n_rep)
        notes.inspect["attention"], notes.inspect["rep"] = attention, rep
        return rep

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """Each task's reading of [rep, item], `(K, B, H)`."""
        h: Tensor = self.heads(Parts(self.user(parts, notes), parts.item, {}, parts.projected))
        return h

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """The heads' logits; those of ranked tasks are <weights(rep), numbers of the item> + b."""
        logits, other = super().item_logits(parts, notes)
        if self.ranking is not None:
            numbers = parts.item[:, self.n_item - self.layout.n_dense("item") :]  # (B, F)
            weights = self.ranking(self.user(parts, notes)).view(-1, len(self.ranked), numbers.shape[1] + 1)  # (1 or B, R, F + 1)
            score = (weights[..., :-1] * numbers[:, None]).sum(-1) + weights[..., -1]  # (B, R)
            logits = logits.index_copy(1, torch.tensor(self.ranked), score)
        return logits, other

    def build_user(self) -> int:
        """User-level tasks read rep alone."""
        return self.rep.n_out

    def represent_user(self, parts: Parts, notes: Notes) -> Tensor:
        """rep, `(1, 1 or B, n_rep)`."""
        return self.user(parts, notes)[None]

    def shared_layers(self) -> list[nn.Module]:
        """The user part, which all tasks share."""
        return [self.lstm, self.attention, *self.rep.layers]

    def _columns(self, ranked: Sequence[str]) -> list[int]:
        scored = list(self.tasks.scored)
        for name in ranked:
            if name not in scored:
                raise ConfigError(f"ranked: {name!r} is no scored task; those are {', '.join(scored)}")
        return [scored.index(name) for name in ranked]

    def _mask(self, reads: Mapping[str, Sequence[str]], n_rep: int, width: int) -> Tensor | None:
        """Which item columns each task's head reads, `(n_rep + Di, K width)`; None when all read everything."""
        names = [task.name for task in self.item_tasks]
        mask = torch.ones(n_rep + self.n_item, self.n_tasks, width)
        for task, features in reads.items():
            if task not in names:
                raise ConfigError(f"reads: {task!r} is no item task; those are {', '.join(names)}")
            mask[n_rep:, names.index(task)] = 0
            for feature in features:
                side, start, stop = self.place_of(feature)
                if side != "item":
                    raise ConfigError(f"reads of {task!r}: {feature!r} is a {side} feature, which rep holds; name item features")
                mask[n_rep + start : n_rep + stop, names.index(task)] = 1
        return mask.view(-1, self.n_tasks * width) if reads else None

    def _freeze(self) -> None:
        """No gradient reaches the rows of the sequences' item features."""
        for name in self.items:
            owner = str(self.layout.spec[name].shares)
            start = self.layout.offsets[owner]
            rows = slice(start, start + self.layout.rows[owner])
            weight = self.inputs.weight(self.inputs.width(owner))
            weight.register_hook(partial(_without, rows=rows))  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _without(grad: Tensor, rows: slice) -> Tensor:
    if grad.is_sparse:
        raise ConfigError("variant w2v freezes rows of a table that is stepped sparsely; use fewer ids or narrower embeddings")
    kept = grad.clone()
    kept[rows] = 0
    return kept
