"""unified_rl: one critic ensemble per reward group and an actor that may leave the logging box only at a price (IntegratedRL-MTF,
called UnifiedRL here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core.errors import DataError
from fusion.policy.learner.actor_critic import ActorCriticModule
from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule, frozen


class UnifiedRlModule(ActorCriticModule):
    """An actor and `n_groups` times `n_critics` critics, with targets; `shift` makes every group's reward at least 0."""

    shift: Tensor
    group_weights: Tensor

    def setup(self) -> None:
        """Make the networks."""
        weights = self.model["group_weights"]
        self.n_groups = len(weights)
        self.register_buffer("group_weights", torch.tensor(weights, dtype=torch.float32))
        self.register_buffer("shift", torch.zeros(self.n_groups))
        self.make(self.n_groups * self.settings["n_critics"], slow_actor=True)


class UnifiedRlLearner(FusionLearner):
    """Groups i with weights w_i, m critics j each.

    Critics: (Q_ij(s, a) - y_ij)^2, y_ij = r_i + gamma (1 - terminated) phi(mu'(s')) Q'_ij(s', mu'(s')).
    Actor: -sum_i w_i mean_j Q_ij(s, mu(s)) + eta d(mu(s)) + lambda sum_i w_i std_j Q_ij(s, mu(s)).
    d is the squared distance of an action to the logging box, phi = exp(-distance / box): 0 and 1 inside. Rewards are shifted
    to be non-negative, so that phi never rewards leaving the box.
    """

    net: UnifiedRlModule

    def prepare(self, columns: Mapping[str, Tensor]) -> None:
        """Find the shift; refuse a log whose baseline is unknown."""
        if not bool(torch.isfinite(columns["baseline"]).all()):
            raise DataError(
                "unified_rl needs the logging policy's baseline of every row; log `baseline`, or name it when loading"
            )
        self.net.shift.copy_((-columns["rewards"].amin(0)).clamp(min=0.0))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See the class."""
        s = self.net.settings
        q = self.q(self.net.critics, batch["state"], batch["action"])  # (G, m, B)
        found = {"critic": ((q - self.target(batch).view_as(q)) ** 2).mean(-1).sum(), "q": q.mean()}
        action = self.net.policy.mean_action(batch["state"])
        with frozen(self.net.critics):
            judged = self.q(self.net.critics, batch["state"], action)
        weights = self.net.group_weights[:, None]
        mean, spread = (weights * judged.mean(1)).sum(0), (weights * judged.std(1, correction=0)).sum(0)  # (B,)
        away = outside(action, batch["baseline"], self.half(batch)) ** 2
        found["actor"] = (-mean + s["eta"] * away + s["lambda_"] * spread).mean()
        return found

    def next_values(self, batch: Batch) -> Tensor:
        """phi(mu'(s')) Q'_ij(s', mu'(s')), `[G * m, B]`."""
        action = self.net.target_policy.mean_action(batch["next_state"])
        phi = torch.exp(-outside(action, batch["next_baseline"], self.half(batch)) / self.net.settings["box"])
        return phi * self.q(self.net.target_critics, batch["next_state"], action).flatten(0, 1)

    def rewards(self, batch: Batch) -> Tensor:
        """Each group's shifted reward, once per critic: `[G * m, B]`."""
        return (batch["rewards"] + self.net.shift).T.repeat_interleave(self.net.settings["n_critics"], 0)

    def q(self, net: nn.Module, state: Tensor, action: Tensor) -> Tensor:
        """All critics, `[G, m, B]`."""
        q: Tensor = net(state, action[:, None])[:, :, 0, 0]
        return q.view(self.net.n_groups, -1, len(state))

    def half(self, batch: Batch) -> Tensor:
        """Half the box's width, `[B, 1]`: as logged, `box` of the settings where the log has none."""
        return torch.nan_to_num(batch["box"], nan=self.net.settings["box"])[:, None]


def outside(action: Tensor, center: Tensor, half: Tensor) -> Tensor:
    """Distance of actions `[B, P]` to the box `center +- half`, `[B]`; 0 inside.

    >>> outside(torch.tensor([[0.1, 0.0], [0.45, 0.55]]), torch.zeros(2, 2), torch.full((2, 1), 0.15)).round(decimals=4).tolist()
    [0.0, 0.5]
    """
    beyond = ((action - center).abs() - half).clamp(min=0.0)
    return (beyond**2).sum(1).clamp(min=1e-12).sqrt() * (beyond > 0).any(1)


class UnifiedRlConfig(FusionConfig):
    """Settings of unified_rl; `box` is the paper's .15 for logs that do not say."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **COMMON,
        "hidden": [256, 256],
        "critic": "mlp",
        "gate": None,
        "n_critics": 4,
        "eta": 10.0,
        "lambda_": 1.0,
        "box": 0.15,
        "critic_lr": 3e-4,
        "actor_lr": 1e-4,
    }
    MODULE: ClassVar[type[FusionModule]] = UnifiedRlModule
    LEARNER: ClassVar[type[FusionLearner]] = UnifiedRlLearner
