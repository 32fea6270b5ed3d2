"""What every architecture is: an input block, its own layers, and heads; written once, run joint or split."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.batches import Batch
from ranker.encoder import Layout
from ranker.experts import InputExperts
from ranker.heads import Outputs, Towers
from ranker.inputs import InputBlock, InputLinear, Parts


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

    def __init__(
        self,
        layout: Layout,
        tasks: TaskSet,
        *,
        towers: Sequence[int] = (32,),
        dropout: float = 0.0,
        norm: bool = False,
        **options: object,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.item_tasks = [task for task in tasks if task.level == "item"]
        self.user_tasks = [task for task in tasks if task.level == "user"]
        self.n_tasks = len(self.item_tasks)
        self.dropout, self.norm = dropout, norm
        self.inputs = InputBlock(self.layout_for(layout))
        self.n_context, self.n_item = self.inputs.n_context, self.inputs.n_item
        if not self.item_tasks:
            raise ConfigError("no item-level task; a ranker needs at least one")
        if self.user_tasks and not self.n_context:
            raise ConfigError(f"task {self.user_tasks[0].name!r} is user-level but no feature is on the user side")
        try:
            n_out = self.build(**options)
        except TypeError as error:
            raise ConfigError(f"model options {sorted(options)}: {str(error).split('.')[-1]}") from error
        self.towers = Towers(self.item_tasks, n_out, towers, dropout=dropout)
        self.user_body = InputExperts(1, self.n_context, 0, (64,), dropout=dropout) if self.user_tasks else None
        self.user_towers = Towers(self.user_tasks, 64, towers, dropout=dropout) if self.user_tasks else None
        self.first_layers = [m for n, m in self.named_modules() if isinstance(m, InputLinear) and not n.startswith("user_body")]
        for place, layer in enumerate(self.first_layers):
            layer.place = place

    def layout_for(self, layout: Layout) -> Layout:
        """The layout its input block is built from; an architecture may widen the embeddings."""
        return layout

    @abstractmethod
    def build(self) -> int:
        """Make the layers; subclasses take their options as keywords. Returns the width that the towers read."""

    @abstractmethod
    def represent(self, parts: Parts) -> Tensor:
        """What each item-level task's tower reads: `(K, B, H)`, or `(1, B, H)` when all read the same."""

    def forward(self, parts: Parts) -> Outputs:
        """Embedded input to outputs."""
        logits, other = self.towers(self.represent(parts))
        if self.user_body is not None and self.user_towers is not None:
            context = Parts(parts.context, parts.context[:, :0])
            other |= self.user_towers(self.user_body(context))[1]
        return Outputs(logits, other)

    def run(self, batch: Batch) -> Outputs:
        """A batch to outputs, embedding included."""
        outputs: Outputs = self(self.inputs.joint(batch.ids, batch.dense, batch.lists))
        return outputs

    def shared_layers(self) -> list[nn.Module]:
        """Dense layers that several tasks share, first to last; empty when nothing but embeddings is shared."""
        return []
