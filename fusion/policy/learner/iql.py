"""iql: implicit Q-learning (Kostrikov et al. 2022): values from logged actions alone, then a policy drawn towards good ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from fusion.policy.learner.actor_critic import ActorCriticModule
from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule, frozen
from fusion.policy.networks import FIRST


class IqlModule(ActorCriticModule):
    """An actor, twin critics with targets, a value net."""

    def setup(self) -> None:
        """Make the networks."""
        s, (n_obs, _) = self.settings, self.sizes
        if s["extraction"] not in ("awr", "gradient"):
            raise ConfigError(f"extraction {s['extraction']!r} must be awr (the paper's) or gradient")
        self.make(2)
        layers: list[nn.Module] = []
        for a, b in zip([n_obs, *s["hidden"][:-1]], s["hidden"], strict=True):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.value = nn.Sequential(*layers, nn.Linear(s["hidden"][-1], 1))

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """See `FusionModule`."""
        return {"value": (list(self.value.parameters()), self.settings["critic_lr"]), **super().optimised()}


class IqlLearner(FusionLearner):
    """Value: the `expectile` of min_j Q'_j(s, a); critics: (Q_j(s, a) - r - gamma (1 - terminated) V(s'))^2.

    Actor, extraction `awr` (the paper's): exp(inverse_temperature (Q' - V)), at most 100, times |mu(s) - a|^2. Extraction
    `gradient` (Park et al. 2024 found it better): -alpha Q_1(s, mu(s)) / mean |Q| + |mu(s) - a|^2, as td3_bc.
    """

    net: IqlModule

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See the class."""
        s, net, state = self.net.settings, self.net, batch["state"]
        logged = batch["action"][:, None]
        with torch.no_grad():
            target_q = net.target_critics(state, logged)[:, :, 0, 0].amin(0)
        value = net.value(state)[:, 0]
        q = net.critics(state, logged)[:, :, 0, 0]
        found = {
            "value": expectile_loss(target_q - value, s["expectile"]),
            "critic": ((q - self.target(batch)) ** 2).mean(1).sum(),
        }
        action = net.policy.mean_action(state)
        if s["extraction"] == "awr":
            weight = torch.exp(s["inverse_temperature"] * (target_q - value.detach())).clamp(max=100.0)
            found["actor"] = (weight * ((action - batch["action"]) ** 2).mean(1)).mean()
        else:
            with frozen(net.critics):
                judged = net.critics(state, action[:, None], FIRST)[0, :, 0, 0]
            near = nn.functional.mse_loss(action, batch["action"])
            found["actor"] = -s["alpha"] * judged.mean() / judged.detach().abs().mean().clamp(min=1e-6) + near
        return {**found, "q": q.mean()}

    def next_values(self, batch: Batch) -> Tensor:
        """V(s'), `[1, B]`."""
        value: Tensor = self.net.value(batch["next_state"])
        return value.T


def expectile_loss(gap: Tensor, expectile: float) -> Tensor:
    """mean |expectile - 1(gap < 0)| gap^2: above one half, the value leans to the better actions.

    >>> round(expectile_loss(torch.tensor([1.0, -1.0]), 0.7).item(), 4)
    0.5
    """
    weight = torch.where(gap < 0, 1 - expectile, expectile)
    return (weight * gap**2).mean()


class IqlConfig(FusionConfig):
    """Settings of iql."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **COMMON,
        "tau": 0.005,
        "target_every": 1,
        "hidden": [256, 256],
        "critic": "mlp",
        "gate": None,
        "expectile": 0.7,
        "inverse_temperature": 3.0,
        "extraction": "awr",
        "alpha": 2.5,
        "critic_lr": 3e-4,
        "actor_lr": 3e-4,
    }
    MODULE: ClassVar[type[FusionModule]] = IqlModule
    LEARNER: ClassVar[type[FusionLearner]] = IqlLearner
