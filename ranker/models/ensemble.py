"""A deep ensemble as one network, p(x) = 1/M sum_m p_m(x), of one architecture (Lakshminarayanan et al., NIPS 2017).

The M members share nothing: each has embeddings, a start and dropout of its own, and meets all rows in an order of its own. They
are trained side by side and validated as one, so that the epoch kept is the one that is best for the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.batches import Batch
from ranker.encoder import Layout
from ranker.features import SIDES, Side
from ranker.heads import Outputs, mean_of, stacked
from ranker.inputs import InputLinear, Parts, SequenceInput, own
from ranker.models.base import MultiTaskModel, Notes


class Ensemble(MultiTaskModel):
    """`members` networks of one `architecture`, whose options it takes; `models.make` builds it for `members` above 1.

    An id's row holds the members' embeddings side by side. Whatever a single network can do, an ensemble can: it is trained,
    stopped and resumed, split, exported and served as one.
    """

    towered = False

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """The architecture's, with rows for all members."""
        return _layout_of_one(layout, tasks, options).resized(lambda dim: dim * options["members"])

    def build(self, architecture: type[MultiTaskModel] | None = None, members: int = 1, **options: Any) -> int:
        """The members, each whole but for the tables."""
        assert architecture is not None
        layout = self.layout.resized(lambda dim: dim // members)
        n_context, n_item = layout.width("user") + layout.width("request"), layout.width("item")
        self.n_members = members
        self.members: list[MultiTaskModel] = []
        for which in range(members):
            member = architecture.body(self, options, n_context=n_context, n_item=n_item, layout=layout)
            member.build_towers()
            self.members.append(member)
            places = {side: torch.tensor(_places(layout, side, which, members), dtype=torch.long) for side in SIDES}
            context = torch.cat([places["user"], places["request"] + self.layout.width("user")])
            self.register_buffer(f"context_{which}", context, persistent=False)  # where the member's numbers lie among all
            self.register_buffer(f"item_{which}", places["item"], persistent=False)
        self.networks = nn.ModuleList(self.members)
        self.ahead, self.grows = self.members[0].ahead, self.members[0].grows
        return 0

    def build_towers(self) -> None:
        """None beside the members'."""

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """None: each member has its own."""
        raise ConfigError("an ensemble has no one representation; build on its architecture")

    def forward(self, parts: Parts) -> Outputs:
        """The mean of what the members predict, and what each says."""
        return mean_of(self.tasks, [member(self._own(parts, which)) for which, member in enumerate(self.members)])

    def run(self, batch: Batch) -> Outputs:
        """In training the batch holds rows of each member, which alone reads them; otherwise all members read all rows."""
        shares = batch.shares or [len(batch)] * self.n_members
        found, start = [], 0
        for which, (member, n) in enumerate(zip(self.members, shares, strict=True)):
            rows = batch.slice(start, start + n)
            start += n if batch.shares else 0
            found.append(member(self.inputs.joint(rows.ids, rows.dense, rows.lists, (which, self.n_members))))
        return stacked(found) if batch.shares else mean_of(self.tasks, found)

    def project(self, item: Tensor) -> Tensor:
        """The first layers' item part, each from its member's numbers."""
        pieces = []
        for which, member in enumerate(self.members):
            mine = item.index_select(1, self.get_buffer(f"item_{which}"))
            inside = {id(module) for module in member.modules() if isinstance(module, InputLinear)}
            pieces += [layer.project(mine) for layer in self.first_layers if id(layer) in inside]
        return torch.cat(pieces, 1)

    def extra_loss(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor | None:
        """The mean of the members' own, each on the rows it read."""
        shares = [len(one.logits) for one in outputs.members]
        apart = sum(shares) == len(values)
        cut = [*zip(torch.split(values, shares), torch.split(weights, shares), strict=True)] if apart else []
        rows = cut or [(values, weights)] * len(shares)
        found = [member.extra_loss(one, *mine) for member, one, mine in zip(self.members, outputs.members, rows, strict=True)]
        terms = [term for term in found if term is not None]
        return sum(terms[1:], terms[0]) / self.n_members if terms else None

    def shared_layers(self) -> list[nn.Module]:
        """Layer by layer those of all members."""
        layers = [member.shared_layers() for member in self.members]
        return [nn.ModuleList(same) for same in zip(*layers, strict=True)]

    @property
    def lead(self) -> MultiTaskModel:
        """The first member."""
        return self.members[0]

    def _own(self, parts: Parts, which: int) -> Parts:
        """One member's share of the embedded input."""
        context = parts.context.index_select(1, self.get_buffer(f"context_{which}"))
        item = parts.item.index_select(1, self.get_buffer(f"item_{which}"))
        share = (which, self.n_members)
        sequences = {k: SequenceInput(own(s.values, share), s.mask, s.ids) for k, s in parts.sequences.items()}
        return Parts(context, item, sequences, parts.projected, parts.ids)


def _layout_of_one(layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
    architecture: type[MultiTaskModel] = options["architecture"]
    return architecture.layout_for(layout, tasks, {k: v for k, v in options.items() if k not in ("architecture", "members")})


def _places(layout: Layout, side: Side, which: int, members: int) -> list[int]:
    """Where one member's numbers lie within a side's vector of all: its share of each embedding, and the numbers.

    Args:
        layout: One member's.
    """
    places: list[int] = []
    start = 0
    for feature in layout.embedded(side):
        places += range(start + which * feature.dim, start + (which + 1) * feature.dim)
        start += members * feature.dim
    return [*places, *range(start, start + layout.n_dense(side))]
