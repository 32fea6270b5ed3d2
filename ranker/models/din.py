"""DIN: attention of the target item over the user's sequence, and any network above (Zhou et al., KDD 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.heads import Outputs
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.networks import network as base_network
from ranker.sequence import TargetAttention, aligned, unpooled


class DIN(MultiTaskModel):
    """x becomes [x, interests]; options: `sequences` (those sharing an item feature's rows), `attention`, `base` and its own."""

    ahead = False  # what the layers read of an item depends on the user

    def build(
        self, sequences: Sequence[str] | None = None, attention: int = 32, base: str = "shared_bottom", **options: Any
    ) -> int:
        """One attention a sequence, and the base network on the longer input."""
        self.sequences = list(unpooled(self.layout)[0] if sequences is None else sequences)
        if not self.sequences:
            raise ConfigError("din needs a user sequence with pooling: none that shares the rows of an item feature")
        network = base_network(base)
        if network.layout_for.__func__ is not MultiTaskModel.layout_for.__func__:  # type: ignore[attr-defined]  # class methods
            raise ConfigError(f"din cannot stand under {base!r}, whose tasks have embeddings of their own; choose another base")
        self.targets = []
        widths = []
        for name in self.sequences:
            widths.append(aligned(self.layout, [name]))
            side, start, stop = self.place_of(str(self.layout.spec[name].shares))
            if side != "item":
                raise ConfigError(f"sequence {name!r} shares the rows of a {side} feature; din attends by the item's")
            self.targets.append((start, stop))
        self.attentions = nn.ModuleList(TargetAttention(width, attention) for width in widths)
        self.network = network.body(self, options, n_item=self.n_item + sum(widths))
        return self.network.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """What the base network makes of the item and the user's interest in it."""
        interests = []
        for name, (start, stop), attention in zip(self.sequences, self.targets, self.attentions, strict=True):
            entries = parts.sequences[name]
            interest, weight = attention(parts.item[:, start:stop], entries.values, entries.mask)  # (B, d), (B, L)
            notes.inspect[f"attention:{name}"] = weight
            interests.append(interest)
        item = torch.cat([parts.item, *interests], 1)  # (B, Di + sum d)
        return self.network.represent(Parts(parts.context, item, parts.sequences, None, parts.ids), notes)

    def shared_layers(self) -> list[nn.Module]:
        """The base network's."""
        return self.network.shared_layers()

    def extra_loss(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor | None:
        """The base network's."""
        return self.network.extra_loss(outputs, values, weights)
