"""cql_sac: soft actor-critic whose critics are pushed down where nobody acted (Kumar et al. 2020), the online runner-up of the
BatchRL-MTF paper. RLlib's own CQL reads Ray datasets only; this is the same loss on the transition table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusion.policy.learner.actor_critic import ActorCriticModule
from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule, frozen


class CqlSacModule(ActorCriticModule):
    """A Gaussian actor, twin critics with targets, the entropy's temperature."""

    def setup(self) -> None:
        """Make the networks."""
        self.make(2, std=True)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.settings["temperature"])))

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """See `FusionModule`."""
        return {**super().optimised(), "temperature": ([self.log_temperature], self.settings["actor_lr"])}


class CqlSacLearner(FusionLearner):
    """Critics: (Q_j(s, a) - y)^2 / 2 + conservative * (log E_u exp Q_j - Q_j(s, a)).

    y = r + gamma (1 - terminated) min_j Q'_j(s', a').
    log E_u exp Q_j is the logarithm of the integral of exp Q_j over the actions, by importance sampling from uniform actions and
    from the policy at s and at s' (CQL(H)); a' is drawn from the policy (its entropy is left out of y, as in CQL's own code).
    Actor: temperature log pi(a | s) - min_j Q_j(s, a), a drawn from pi. Temperature: entropy towards -n_params.
    """

    net: CqlSacModule

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See the class."""
        s, net = self.net.settings, self.net
        temperature = net.log_temperature.exp().detach()
        action, log_density = self.draw(batch["state"], 1)
        with frozen(net.critics):
            judged = net.critics(batch["state"], action)[:, :, 0, 0].amin(0)
        found = {"actor": (temperature * log_density[:, 0] - judged).mean()}
        entropy_gap = (log_density.detach() - action.shape[-1]).mean()
        found["temperature"] = -net.log_temperature * entropy_gap

        y = self.target(batch)  # (1, B)
        tries, log_weight = self.proposals(batch)  # (B, 3 k, P), (B, 3 k)
        q = net.critics(batch["state"], torch.cat([batch["action"][:, None], tries], 1))[..., 0]  # (2, B, 1 + 3 k)
        logged, others = q[:, :, 0], q[:, :, 1:]
        push = self.log_mean_exp(others, log_weight) - logged
        found["critic"] = (0.5 * (logged - y) ** 2).mean(1).sum() + s["conservative"] * push.mean(1).sum()
        return {**found, "q": logged.mean(), "push": push.mean()}

    def next_values(self, batch: Batch) -> Tensor:
        """min_j Q'_j at an action drawn at s', `[1, B]`."""
        after, _ = self.draw(batch["next_state"], 1)
        q: Tensor = self.net.target_critics(batch["next_state"], after)[:, :, 0, 0]
        return q.amin(0, keepdim=True)

    def draw(self, state: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """`k` actions a state from the policy, `[B, k, P]`, and their log densities `[B, k]`."""
        mean, log_std = self.net.policy.raw(state)
        noise = torch.randn(len(state), k, mean.shape[1], generator=self.generator)
        before = mean[:, None] + log_std.exp()[:, None] * noise
        return torch.tanh(before), squashed_log_density(before, mean[:, None], log_std[:, None])

    def proposals(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Actions that stand for the action space, and the log densities they were drawn with."""
        k, (n, p) = self.net.settings["n_actions"], batch["action"].shape
        with torch.no_grad():
            uniform = torch.rand(n, k, p, generator=self.generator) * 2 - 1
            own, own_density = self.draw(batch["state"], k)
            after, after_density = self.draw(batch["next_state"], k)
            flat = torch.full((n, k), -p * math.log(2.0))
        return torch.cat([uniform, own, after], 1), torch.cat([flat, own_density, after_density], 1)

    def log_mean_exp(self, q: Tensor, log_density: Tensor) -> Tensor:
        """log of the mean of exp(Q - log density) over the tries: `[2, B, n]`, `[B, n]` -> `[2, B]`."""
        return torch.logsumexp(q - log_density, -1) - math.log(q.shape[-1])


def squashed_log_density(before: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log density of tanh(before), before normal: sum over the last axis of log N - log(1 - tanh^2), stable for large values.

    >>> round(squashed_log_density(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1)).item(), 4)
    -0.9189
    """
    normal = -0.5 * ((before - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2.0) - before - nn.functional.softplus(-2 * before))
    return (normal - slope).sum(-1)


class CqlSacConfig(FusionConfig):
    """Settings of cql_sac."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **COMMON,
        "tau": 0.005,
        "target_every": 1,
        "hidden": [256, 256],
        "critic": "mlp",
        "gate": None,
        "conservative": 1.0,
        "n_actions": 4,
        "temperature": 0.1,
        "critic_lr": 3e-4,
        "actor_lr": 1e-4,
    }
    MODULE: ClassVar[type[FusionModule]] = CqlSacModule
    LEARNER: ClassVar[type[FusionLearner]] = CqlSacLearner
