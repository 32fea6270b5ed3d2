"""batchrl_mtf: batch-constrained Q-learning of fusion weights (BatchRL-MTF, after Fujimoto et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusion.policy.learner.base import COMMON, Batch, FusionConfig, FusionLearner, FusionModule, frozen, target_of
from fusion.policy.networks import FIRST, Bcq, Joint


class BatchRlMtfModule(FusionModule):
    """VAE, perturbation net and twin critics, with targets of the last two."""

    policy: Bcq

    def setup(self) -> None:
        """Make the networks."""
        s = self.settings
        self.policy = Bcq(
            *self.sizes,
            s["hidden"],
            vae_hidden=s["vae_hidden"],
            n_samples=s["n_samples"],
            rho=s["rho"],
            critic=s["critic"],
            gate=s["gate"],
            ranges=self.model["ranges"],
        )
        self.target_perturbation, self.target_critics = target_of(self.policy.perturbation), target_of(self.policy.critics)

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """See `FusionModule`."""
        s, net = self.settings, self.policy
        return {
            "vae": ([*net.encoder.parameters(), *net.decoder.parameters()], s["vae_lr"]),
            "critic": (list(net.critics.parameters()), s["critic_lr"]),
            "perturbation": (list(net.perturbation.parameters()), s["perturbation_lr"]),
        }

    def targets(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """See `FusionModule`."""
        return [(self.target_critics, self.policy.critics), (self.target_perturbation, self.policy.perturbation)]


class BatchRlMtfLearner(FusionLearner):
    """VAE: |D(s, z) - a|^2 + kl_weight KL(E(z | s, a) || N(0, 1)), means over dimensions, z not clipped.

    Critics: (Q_j(s, a) - y)^2 with y = r + gamma (1 - terminated) max_n min_j Q'_j(s', a'_n), the a'_n generated at s' (z clipped
    to +-.5) and moved by the target perturbation. Perturbation: -Q_1(s, a + xi(s, a)) for one generated a.
    """

    net: BatchRlMtfModule

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See the class."""
        net = self.net.policy
        q = net.critics(batch["state"], batch["action"][:, None])[:, :, 0, 0]  # (2, B)
        critic = ((q - self.target(batch)) ** 2).mean(1).sum()
        vae = self.vae_loss(batch["state"], batch["action"])
        with torch.no_grad():
            likely = net.sample(batch["state"], 1, self.generator)
        with frozen(net.critics):
            perturbation = -net.critics(batch["state"], net.perturb(batch["state"], likely), FIRST).mean()
        return {"vae": vae, "critic": critic, "perturbation": perturbation, "q": q.mean()}

    def vae_loss(self, state: Tensor, action: Tensor) -> Tensor:
        """Reconstruction and KL; see the class."""
        mean, log_std = self.net.policy.encode(state, action)
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=self.generator)
        again = self.net.policy.decode(state, z[:, None])[:, 0]
        divergence = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).mean()
        return nn.functional.mse_loss(again, action) + float(self.net.settings["kl_weight"]) * divergence

    def next_values(self, batch: Batch) -> Tensor:
        """max_n min_j Q'_j at s', `[1, B]`; 0 where the session was left, since nothing comes after."""
        net, critics = self.net.policy, self.net.target_critics
        alive = (batch["terminated"] == 0).nonzero()[:, 0]
        z = net.codes(batch["next_state"], self.net.settings["n_samples"], self.generator)[alive]
        state = batch["next_state"][alive]
        tries = net.perturb(state, net.decode(state, z), self.net.target_perturbation)
        best = best_of_two(critics, state, tries) if isinstance(critics, Joint) else critics(state, tries)[..., 0].amin(0).amax(1)
        return best.new_zeros(1, len(batch["terminated"])).index_copy_(1, alive, best[None])


def best_of_two(critics: Joint, state: Tensor, tries: Tensor) -> Tensor:
    """max over tries `[B, K, P]` of the smaller of two critics, `[B]`, exactly, mostly asking one critic about each try.

    No try is worth more than either critic says. Both judge the first try of a state, and the lower one there is asked about all
    the others. Its favourite is judged by the other too, and then only the tries that it puts above what the favourite came to.
    """
    first = critics(state, tries[:, :1])[:, :, 0, 0]  # (2, B)
    value = torch.empty_like(first[0])
    for lead in (0, 1):
        rows = (first.argmin(0) == lead).nonzero()[:, 0]
        value[rows] = _led_by(lead, critics, state[rows], tries[rows])
    return value


def _led_by(lead: int, critics: Joint, state: Tensor, tries: Tensor) -> Tensor:
    q = critics(state, tries, slice(lead, lead + 1))[0, :, :, 0]  # (B, K)
    row = torch.arange(len(q))
    top, at = q.max(1)
    value = torch.minimum(top, critics.rows(state, tries[row, at], row, 1 - lead)[:, 0])
    doubtful = q > value[:, None]
    doubtful[row, at] = False
    row, column = doubtful.nonzero(as_tuple=True)
    if len(row):
        other = torch.minimum(q[row, column], critics.rows(state, tries[row, column], row, 1 - lead)[:, 0])
        value = value.scatter_reduce(0, row, other, "amax")
    return value


class BatchRlMtfConfig(FusionConfig):
    """Settings of batchrl_mtf, the paper's by default: rho, rates, n_samples, soft update .05 every 10 steps, batch 256."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {
        **COMMON,
        "hidden": [256, 256],
        "vae_hidden": None,
        "critic": "mlp",
        "gate": None,
        "n_samples": 10,
        "rho": 0.15,
        "kl_weight": 0.5,
        "vae_lr": 1e-3,
        "critic_lr": 2e-4,
        "perturbation_lr": 1e-4,
    }
    MODULE: ClassVar[type[FusionModule]] = BatchRlMtfModule
    LEARNER: ClassVar[type[FusionLearner]] = BatchRlMtfLearner
