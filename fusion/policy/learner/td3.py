"""td3: twin critics, smoothed target actions and a deterministic actor (Fujimoto et al. 2018), with nothing that keeps it near
the logged actions: offline it is expected to overrate actions that nobody tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fusion.policy.learner.actor_critic import ActorCriticModule
from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule, frozen
from fusion.policy.networks import FIRST


class Td3Module(ActorCriticModule):
    """An actor, `n_critics` critics and their targets."""

    def setup(self) -> None:
        """Make the networks."""
        self.make(self.settings["n_critics"], slow_actor=True)


class Td3Learner(FusionLearner):
    """Critics: (Q_j(s, a) - y)^2, y = r + gamma (1 - terminated) min_j Q'_j(s', clip(mu'(s') + noise)); actor: -Q_1(s, mu(s))."""

    net: Td3Module

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The actor takes a step every `actor_every` updates."""
        s = self.net.settings
        q = self.net.critics(batch["state"], batch["action"][:, None])[:, :, 0, 0]  # (m, B)
        found = {"critic": ((q - self.target(batch)) ** 2).mean(1).sum(), "q": q.mean()}
        if self.n_updates % s["actor_every"] == 0:
            found["actor"] = self.actor_loss(batch)
        return found

    def next_values(self, batch: Batch) -> Tensor:
        """min_j Q'_j at the smoothed target action, `[1, B]`."""
        s = self.net.settings
        action = self.net.target_policy.mean_action(batch["next_state"])
        noise = torch.randn(action.shape, generator=self.generator) * s["target_noise"]
        action = (action + noise.clamp(-s["noise_clip"], s["noise_clip"])).clamp(-1.0, 1.0)
        q: Tensor = self.net.target_critics(batch["next_state"], action[:, None])[:, :, 0, 0]
        return q.amin(0, keepdim=True)

    def actor_loss(self, batch: Batch) -> Tensor:
        """-mean Q(s, mu(s))."""
        return -self.judged(batch["state"], self.net.policy.mean_action(batch["state"])).mean()

    def judged(self, state: Tensor, action: Tensor) -> Tensor:
        """What the actor climbs, `[B]`: the first critic, or with `actor_critic: target` the mean of the slow ones."""
        if self.net.settings["actor_critic"] == "target":
            slow: Tensor = self.net.target_critics(state, action[:, None])[:, :, 0, 0]
            return slow.mean(0)
        with frozen(self.net.critics):
            q: Tensor = self.net.critics(state, action[:, None], FIRST)[0, :, 0, 0]
        return q


class Td3Config(FusionConfig):
    """Settings of td3."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **COMMON,
        "tau": 0.005,
        "target_every": 1,
        "hidden": [256, 256],
        "critic": "mlp",
        "gate": None,
        "n_critics": 2,
        "critic_lr": 3e-4,
        "actor_lr": 3e-4,
        "target_noise": 0.2,
        "noise_clip": 0.5,
        "actor_every": 2,
        "actor_critic": "first",
    }
    MODULE: ClassVar[type[FusionModule]] = Td3Module
    LEARNER: ClassVar[type[FusionLearner]] = Td3Learner
