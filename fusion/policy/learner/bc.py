"""bc: behaviour cloning, the mean logged action of a state. What the other policies must beat on the same log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule
from fusion.policy.networks import Actor


class BcModule(FusionModule):
    """An actor alone."""

    policy: Actor

    def setup(self) -> None:
        """Make the network."""
        self.policy = Actor(*self.sizes, self.settings["hidden"])

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """See `FusionModule`."""
        return {"actor": (list(self.policy.parameters()), self.settings["actor_lr"])}


class BcLearner(FusionLearner):
    """L = E |pi(s) - a|^2, the mean over parameters."""

    net: BcModule

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `FusionLearner`."""
        return {"actor": nn.functional.mse_loss(self.net.policy.mean_action(batch["state"]), batch["action"])}


class BcConfig(FusionConfig):
    """Settings of bc."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {**COMMON, "hidden": [256, 256], "actor_lr": 1e-3}
    MODULE: ClassVar[type[FusionModule]] = BcModule
    LEARNER: ClassVar[type[FusionLearner]] = BcLearner
