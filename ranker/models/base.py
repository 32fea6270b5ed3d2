"""What every architecture is: an input block, its own layers, and heads; written once, run joint or split."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.batches import Batch
from ranker.encoder import Layout
from ranker.experts import InputExperts
from ranker.features import SIDES
from ranker.heads import Outputs, Towers
from ranker.inputs import InputBlock, InputLinear, Parts


@dataclass(slots=True)
class Notes:
    """What an architecture says beside its representation, during one forward pass.

    Args:
        aux: Losses of its own (orthogonality, load balance), summed into `Outputs.aux`; written in training only.
        inspect: What reports look at, such as gate weights `(B, K, E)`.
    """

    aux: list[Tensor] = field(default_factory=list)
    inspect: dict[str, Tensor] = field(default_factory=dict)


class MultiTaskModel(nn.Module, ABC):
    """Subclasses build their layers in `build` and say in `represent` what each item-level task's tower reads.

    User-level tasks read the context part alone, so they never depend on the item: one MLP and a tower each.

    Args:
        layout: Where the features lie.
        tasks: What to predict; K below counts the item-level ones.
        towers: Hidden widths of each task's tower.
        dropout: Share of hidden units dropped in training.
        norm: BatchNorm after hidden layers; off by default, it makes results swing over seeds.
        options: The architecture's own, each a keyword of its `build`.
    """

    n_out: int  # the width that the towers read
    towers: Towers
    towered = True  # whether its logits are towers on a representation
    grows = False  # whether weights are ordered so that a new task or scenario is a new block at the end
    n_members = 1  # networks in it; an ensemble has several
    ahead = True  # whether the first layers read the item part as it stands, so that their share can be computed ahead

    def __init__(
        self,
        layout: Layout,
        tasks: TaskSet,
        *,
        towers: Sequence[int] = (32,),
        dropout: float = 0.0,
        norm: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.item_tasks = [task for task in tasks if task.level == "item"]
        self.user_tasks = [task for task in tasks if task.level == "user"]
        self.n_tasks = len(self.item_tasks)
        self.dropout, self.norm, self.tower_widths = dropout, norm, tuple(towers)
        self.layout = self.layout_for(layout, tasks, options)
        self.inputs = InputBlock(self.layout)
        self.n_context, self.n_item = self.inputs.n_context, self.inputs.n_item
        if not self.item_tasks:
            raise ConfigError("no item-level task; a ranker needs at least one")
        if self.user_tasks and not self.n_context:
            raise ConfigError(f"task {self.user_tasks[0].name!r} is user-level but no feature is on the user side")
        self.check_options(options)
        self.n_out = self.build(**options)
        self.build_towers()
        layers = [m for n, m in self.named_modules() if isinstance(m, InputLinear) and "user_body" not in n.split(".")]
        self.first_layers = layers if self.ahead else []
        for place, layer in enumerate(self.first_layers):
            layer.place = place

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """The layout its input block is built from; an architecture may widen the embeddings."""
        return layout

    @abstractmethod
    def build(self) -> int:
        """Make the layers; subclasses take their options as keywords. Returns the width that the towers read."""

    def build_towers(self) -> None:
        """Towers of item-level tasks on `n_out`, and what user-level tasks read with theirs."""
        if self.towered:
            self.towers = Towers(self.item_tasks, self.n_out, self.tower_widths, dropout=self.dropout)
        n_user = self.build_user() if self.user_tasks else 0
        user_towers = Towers(self.user_tasks, n_user, self.tower_widths, dropout=self.dropout) if self.user_tasks else None
        self.user_towers = user_towers

    @abstractmethod
    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """What each item-level task's tower reads: `(K, B, H)`, or `(1, B, H)` when all read the same."""

    def build_user(self) -> int:
        """Make the layers that user-level tasks read; returns their width."""
        self.user_body = InputExperts(1, self.n_context, 0, (64,), dropout=self.dropout)
        return self.user_body.n_out

    def represent_user(self, parts: Parts, notes: Notes) -> Tensor:
        """What the towers of user-level tasks read, `(1, B or 1, H)`; never anything of the item."""
        h: Tensor = self.user_body(Parts(parts.context, parts.context[:, :0]))
        return h

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits `(B, n_scored)` of item-level tasks, and the multiclass ones by task: towers on the representation."""
        found: tuple[Tensor, dict[str, Tensor]] = self.towers(self.represent(parts, notes))
        return found

    def forward(self, parts: Parts) -> Outputs:
        """Embedded input to outputs."""
        notes = Notes()
        logits, other = self.item_logits(parts, notes)
        if self.user_towers is not None:
            other |= self.user_towers(self.represent_user(parts, notes))[1]
        return Outputs(logits, other, sum(notes.aux[1:], notes.aux[0]) if notes.aux else None, notes.inspect)

    def extra_loss(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor | None:
        """A loss of the architecture that needs labels, from targets and weights `(B, K)` in task order; None for most."""
        return None

    def run(self, batch: Batch) -> Outputs:
        """A batch to outputs, embedding included."""
        outputs: Outputs = self(self.inputs.joint(batch.ids, batch.dense, batch.lists))
        return outputs

    def project(self, item: Tensor) -> Tensor:
        """What all first layers make of the item part `(n, Di)`, side by side `(n, sum of their widths)`."""
        return torch.cat([layer.project(item) for layer in self.first_layers], 1)

    def shared_layers(self) -> list[nn.Module]:
        """Dense layers that several tasks share, first to last; empty when nothing but embeddings is shared."""
        return []

    @property
    def lead(self) -> MultiTaskModel:
        """The network whose notes `Outputs.inspect` holds: itself, or an ensemble's first member."""
        return self

    @classmethod
    def body(
        cls,
        host: MultiTaskModel,
        options: Mapping[str, Any],
        *,
        n_context: int | None = None,
        n_item: int | None = None,
        layout: Layout | None = None,
    ) -> MultiTaskModel:
        """This architecture's own layers on a host's input, which may be wider than its features: no tables, no towers.

        Args:
            n_context, n_item, layout: What the layers read, where it is not what the host reads.

        `body.n_out` is the width of what its `represent` gives.
        """
        body = cls.__new__(cls)
        nn.Module.__init__(body)
        body.tasks, body.item_tasks, body.user_tasks, body.n_tasks = host.tasks, host.item_tasks, host.user_tasks, host.n_tasks
        body.dropout, body.norm, body.tower_widths = host.dropout, host.norm, host.tower_widths
        body.layout = host.layout if layout is None else layout
        body.n_context = host.n_context if n_context is None else n_context
        body.n_item = host.n_item if n_item is None else n_item
        body.__dict__["inputs"] = host.inputs  # to watch ids, not to own it twice
        body.check_options(options)
        body.n_out = body.build(**options)
        return body

    def place_of(self, name: str) -> tuple[str, int, int]:
        """Where a sparse feature's embedding lies: its side, and from where to where within that side's vector."""
        for side in SIDES:
            start = 0
            for feature in self.layout.sparse[side]:
                if feature.name == name:
                    return side, start, start + feature.dim
                start += feature.dim
        raise ConfigError(f"the model needs the sparse feature {name!r}, which the spec does not declare")

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse an option that `build` does not take."""
        known = list(inspect.signature(self.build).parameters)
        unknown = sorted(set(options) - set(known))
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(self.build).parameters.values()):
            common = ["towers", "dropout", "norm", "members"]
            raise ConfigError(f"{type(self).__name__}: unknown option {unknown[0]!r}; options are {', '.join(known + common)}")
