"""What td3, td3_bc, unified_rl, cql_sac and iql share: an actor, critics, and their slow targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from fusion.policy.learner.base import FusionModule, target_of
from fusion.policy.networks import ActionForm, Actor, Joint


class ActorCriticModule(FusionModule):
    """An actor and some critics, each with a rate of its own; `target_policy` exists where `make` was told so."""

    policy: Actor
    target_policy: Actor
    critics: Joint | ActionForm
    target_critics: Joint | ActionForm

    def make(self, n_critics: int, *, std: bool = False, slow_actor: bool = False) -> None:
        """Make the networks and their targets; `std`: the actor is a Gaussian."""
        self.policy = Actor(*self.sizes, self.settings["hidden"], std=std)
        self.critics = self.make_critics(n_critics)
        if slow_actor:
            self.target_policy = target_of(self.policy)
        self.target_critics = target_of(self.critics)

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """See `FusionModule`."""
        return {
            "critic": (list(self.critics.parameters()), self.settings["critic_lr"]),
            "actor": (list(self.policy.parameters()), self.settings["actor_lr"]),
        }

    def targets(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """See `FusionModule`."""
        pairs: list[tuple[nn.Module, nn.Module]] = [(self.target_critics, self.critics)]
        return [*pairs, (self.target_policy, self.policy)] if hasattr(self, "target_policy") else pairs
