"""ESMM: a funnel over all impressions, p(child) = p(parent) p(child | parent), no loss on the latter (Ma et al., SIGIR 2018).

L = CE(click, pCTR) + CE(click and buy, pCTCVR), pCTCVR = pCTR pCVR; a longer chain is declared by each task's parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.heads import Outputs
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.din import DIN
from ranker.models.networks import network

BASES = {"din": DIN}
MIN = 1e-7  # keeps log(1 - p) finite


class ESMM(MultiTaskModel):
    """Any base network whose binary towers give conditional logits, chained into probabilities over all impressions.

    Options: `funnel` (parent by task, such as `{"buy": "cart", "cart": "click"}`; by default every later binary task
    without a sample space is a child of the first), `base` (an architecture's name), and that architecture's own. A child's label
    is over all rows: 0 where its parent did not happen. The conditional, pCVR, is child over parent: `conditional`.
    """

    @classmethod
    def layout_for(cls, layout: Layout, tasks: TaskSet, options: Mapping[str, Any]) -> Layout:
        """The base network's."""
        return network(options.get("base", "shared_bottom"), BASES).layout_for(layout, tasks, options)

    def build(self, funnel: Mapping[str, str] | None = None, base: str = "shared_bottom", **options: Any) -> int:
        """The base network, and which logits add up along which path."""
        self.network = network(base, BASES).body(self, options)
        self.ahead = self.network.ahead
        scored = self.tasks.scored
        binary = [name for name in scored if self.tasks[name].kind == "binary"]
        everywhere = [name for name in binary[1:] if not self.tasks[name].sample_space]
        self.funnel = dict.fromkeys(everywhere, binary[0]) if funnel is None and binary else dict(funnel or {})
        for child, parent in self.funnel.items():
            for name in (child, parent):
                if name not in binary:
                    raise ConfigError(
                        f"funnel {child!r} > {parent!r}: {name!r} is no binary item task; those are {', '.join(binary)}"
                    )
            if self.tasks[child].sample_space:
                raise ConfigError(f"task {child!r}: a funnel learns it over all impressions; remove its sample_space")
        paths = torch.stack([torch.tensor([float(other in self._path(name)) for other in scored]) for name in scored])
        self.register_buffer("paths", paths, persistent=False)  # (S, S): 1 where the column is on the row's way from the root
        self.chained = [at for at, name in enumerate(scored) if name in self.funnel]
        return self.network.n_out

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        """What the base network says."""
        return self.network.represent(parts, notes)

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits over the entire space; roots keep their own."""
        logits, other = self.towers(self.represent(parts, notes))
        return self.chain(logits, other, notes)

    def chain(self, logits: Tensor, other: dict[str, Tensor], notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """Conditional logits `(B, S)` to those of the products along each path."""
        logits = logits.float()  # products of probabilities are too fine for bfloat16
        notes.inspect["conditional"] = logits
        if not self.chained:
            return logits, other
        log_p = self.log_products(logits)[:, self.chained].clamp(max=-MIN)  # (B, C)
        whole = log_p - torch.log(-torch.expm1(log_p))  # log p - log(1 - p)
        return logits.index_copy(1, torch.tensor(self.chained), whole), other

    def log_products(self, conditional: Tensor) -> Tensor:
        """log p over the entire space of every scored task, `(B, S)`."""
        paths = self.paths
        assert isinstance(paths, Tensor)
        return (F.logsigmoid(conditional).unsqueeze(1) * paths).sum(-1)

    def shared_layers(self) -> list[nn.Module]:
        """The base network's."""
        return self.network.shared_layers()

    def extra_loss(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor | None:
        """None beyond the tasks' own; the estimators of `escm2` add theirs."""
        return self.network.extra_loss(outputs, values, weights)

    def _path(self, name: str) -> list[str]:
        path = [name]
        while path[-1] in self.funnel:
            if self.funnel[path[-1]] in path:
                raise ConfigError(f"funnel: task {name!r} is its own ancestor ({' > '.join(reversed(path))}); remove the cycle")
            path.append(self.funnel[path[-1]])
        return path


def conditional(child: Tensor, parent: Tensor) -> Tensor:
    """p(child | parent) from the two probabilities over the entire space, such as pCVR = pCTCVR / pCTR.

    >>> conditional(torch.tensor([0.125]), torch.tensor([0.5])).item()
    0.25
    """
    return child / parent.clamp(min=MIN)
