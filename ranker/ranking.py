"""An optional term that compares rows of one group (a request, a user): pairwise logistic or listwise softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.losses import as_it_is

KINDS = ("pairwise", "listwise")


class RankingLoss:
    """`strength` times the term of every task it names, added to the tasks' own losses.

    pairwise: mean over pairs of a group with y_i > y_j of log(1 + exp(s_j - s_i)) (RankNet, Burges et al., ICML 2005).
    listwise: mean over groups of -sum_i y_i / sum y log softmax(s)_i (ListNet, Cao et al., ICML 2007).

    Args:
        settings: `kind`, `group` (a column), `strength` (.1), `tasks` (all scored ones).
        scored: Scored tasks in the order of the logits; `names` are all tasks, in the order of targets.
        total: Makes counts `(S,)` of this batch those of all workers' batches, as in `ranker.losses`; a group is with one worker.

    Raises:
        ConfigError: A setting is unknown or outside its values.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        scored: tuple[str, ...],
        names: tuple[str, ...],
        total: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        known = ("kind", "group", "strength", "tasks")
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ConfigError(f"ranking: unknown setting {unknown[0]!r}; settings are {', '.join(known)}")
        self.kind = settings.get("kind", "pairwise")
        if self.kind not in KINDS:
            raise ConfigError(f"ranking kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if "group" not in settings:
            raise ConfigError("ranking needs group, the column whose rows are compared, such as request_id or user_id")
        self.group = str(settings["group"])
        self.strength = float(settings.get("strength", 0.1))
        if not 0 < self.strength < float("inf"):
            raise ConfigError(f"ranking strength = {self.strength} must be a number above 0")
        tasks = list(settings.get("tasks", scored))
        for task in tasks:
            if task not in scored:
                raise ConfigError(f"ranking of task {task!r}: it has no score; tasks with one are {', '.join(scored)}")
        self.total = total or as_it_is
        self.columns = torch.tensor([scored.index(task) for task in tasks])
        self.targets = torch.tensor([names.index(task) for task in tasks])

    def __call__(self, logits: Tensor, values: Tensor, weights: Tensor, group: Tensor) -> Tensor:
        """The term, from logits `(B, S)`, targets and weights `(B, K)` and groups `(B,)`; 0 where nothing can be compared."""
        s, y, w = logits[:, self.columns], values[:, self.targets], (weights[:, self.targets] > 0).float()
        loss = pairwise if self.kind == "pairwise" else listwise
        above, below = loss(s, y, w, group)
        return self.strength * (above / self.total(below).clamp(min=1)).sum()


def pairwise(s: Tensor, y: Tensor, w: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """RankNet's losses summed over pairs, and how many pairs, of each task `(S,)`; from scores, labels and masks `(B, S)`.

    >>> s, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [0.0]])
    >>> loss, n = pairwise(s, y, torch.ones(2, 1), torch.zeros(2))
    >>> round(loss.item(), 4), n.item()
    (0.6931, 1.0)
    """
    i, j = torch.nonzero(torch.triu(group[:, None] == group[None], 1), as_tuple=True)  # pairs within a group, each once
    gap = y[i] - y[j]  # (P, S)
    counted = w[i] * w[j] * (gap != 0)
    loss = F.softplus(-torch.sign(gap) * (s[i] - s[j])) * counted
    return loss.sum(0), counted.sum(0)


def listwise(s: Tensor, y: Tensor, w: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """ListNet's losses summed over groups that hold something positive, and how many groups, of each task `(S,)`.

    >>> s, y = torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [0.0]])
    >>> loss, n = listwise(s, y, torch.ones(2, 1), torch.zeros(2))
    >>> round(loss.item(), 4), n.item()
    (0.6931, 1.0)
    """
    index = torch.unique(group, return_inverse=True)[1]  # (B,)
    n = int(index.max()) + 1 if len(index) else 0
    place = index[:, None].expand_as(s)
    low = s.masked_fill(w == 0, torch.finfo(s.dtype).min)
    top = s.new_full((n, s.shape[1]), torch.finfo(s.dtype).min).scatter_reduce(0, place, low.detach(), "amax")  # (G, S)
    total = s.new_zeros(n, s.shape[1]).scatter_add(0, place, torch.exp(low - top.gather(0, place)) * w)
    log_p = s - top.gather(0, place) - total.clamp(min=1e-30).log().gather(0, place)  # (B, S)
    gain = y.clamp(min=0) * w
    mass = s.new_zeros(n, s.shape[1]).scatter_add(0, place, gain)  # (G, S)
    share = gain / mass.gather(0, place).clamp(min=1e-12)
    return -(share * log_p).sum(0), (mass > 0).sum(0).to(s.dtype)
