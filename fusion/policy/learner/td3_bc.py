"""td3_bc: td3 whose actor also stays near the logged actions (Fujimoto and Gu 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from fusion.policy.learner.base import Batch, FusionLearner, FusionModule
from fusion.policy.learner.td3 import Td3Config, Td3Learner, Td3Module


class Td3BcLearner(Td3Learner):
    """Actor: -alpha Q(s, mu(s)) / scale + |mu(s) - a|^2.

    The paper's `scale` is the batch's mean |Q|. With `q_scale: spread` (ours) it is the standard deviation over the batch of the
    action's own part Q(s, a) - Q(s, 0), so that alpha does not depend on how large returns are.
    """

    def actor_loss(self, batch: Batch) -> Tensor:
        """See the class."""
        s = self.net.settings
        action = self.net.policy.mean_action(batch["state"])
        q = self.judged(batch["state"], action)
        if s["q_scale"] == "mean":
            scale = q.detach().abs().mean()
        else:
            logged = self.judged(batch["state"], batch["action"]) - self.judged(batch["state"], action * 0)
            scale = logged.detach().std()
        near = nn.functional.mse_loss(action, batch["action"])
        return near - float(s["alpha"]) * q.mean() / scale.clamp(min=1e-6)


class Td3BcConfig(Td3Config):
    """Settings of td3_bc."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {**Td3Config.DEFAULTS, "alpha": 2.5, "q_scale": "mean"}
    MODULE: ClassVar[type[FusionModule]] = Td3Module
    LEARNER: ClassVar[type[FusionLearner]] = Td3BcLearner
