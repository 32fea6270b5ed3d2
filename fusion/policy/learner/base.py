"""What every algorithm shares: an RLModule around plain networks, a TorchLearner fed with rows of tensors, and their config.

One update is `losses` (each with its own optimiser), one backward pass over their sum, one step of every optimiser that has a
loss, then the targets. RLlib's batches, connectors and metrics stay out of the loop: they cost more than the mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, ClassVar, Self, cast

import gymnasium
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from core.errors import ConfigError
from fusion.policy.networks import ActionForm, Joint, PolicyNet, critics

Batch = Mapping[str, Tensor]  # columns of `Transitions`, `[B, ...]`, with `state` and `next_state` standardised
COMMON: Mapping[str, Any] = {
    "gamma": 0.95,
    "batch_size": 256,
    "tau": 0.05,
    "target_every": 10,
    "trace": 0.0,  # lambda of the returns that critics aim at; 0, the papers', bootstraps after one step
    "trace_every": 500,
}


class FusionConfig(AlgorithmConfig):
    """An algorithm's settings on top of RLlib's own; `DEFAULTS` names them all."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = COMMON
    MODULE: ClassVar[type[FusionModule]]
    LEARNER: ClassVar[type[FusionLearner]]

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)
        self.settings: dict[str, Any] = dict(self.DEFAULTS)
        self.lr: Any = None  # each network has its own

    def fusion(self, **settings: Any) -> Self:
        """Change settings by name.

        Raises:
            ConfigError: A name is unknown.
        """
        for name, value in settings.items():
            if name not in self.settings:
                raise ConfigError(f"unknown setting {name!r}; settings are {', '.join(sorted(self.settings))}")
            self.settings[name] = value
        return self

    def shaped(self, n_obs: int, low: Sequence[float], high: Sequence[float], *, group_weights: Sequence[float] = (1.0,)) -> Self:
        """Say how wide states are, what ranges actions stand for, and what the reward's groups weigh."""
        spaces = [gymnasium.spaces.Box(-1.0, 1.0, (n,), np.float32) for n in (n_obs, len(low))]
        ranges = [[float(x) for x in low], [float(x) for x in high]]
        model = {"n_obs": n_obs, "ranges": ranges, "group_weights": list(group_weights), "settings": self.settings}
        spec = RLModuleSpec(module_class=self.MODULE, observation_space=spaces[0], action_space=spaces[1], model_config=model)
        return self.environment(observation_space=spaces[0], action_space=spaces[1]).rl_module(rl_module_spec=spec)

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """RLlib asks for it."""
        return RLModuleSpec(module_class=self.MODULE)

    def get_default_learner_class(self) -> type[FusionLearner]:
        """RLlib asks for it."""
        return self.LEARNER


class FusionModule(TorchRLModule):
    """The networks of one algorithm. `setup` makes them; `policy` is the one that is deployed."""

    policy: PolicyNet

    @property
    def model(self) -> Mapping[str, Any]:
        """What `FusionConfig.shaped` said: `n_obs`, `ranges`, `group_weights`, `settings`."""
        return cast(Mapping[str, Any], self.model_config)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The algorithm's settings."""
        found: Mapping[str, Any] = self.model["settings"]
        return found

    @property
    def sizes(self) -> tuple[int, int]:
        """Widths of a state and of an action."""
        return int(self.model["n_obs"]), len(self.model["ranges"][0])

    def make_critics(self, m: int) -> Joint | ActionForm:
        """`m` critics of the form that the settings name."""
        s = self.settings
        return critics(s["critic"], *self.sizes, s["hidden"], m, gate=s["gate"], ranges=self.model["ranges"])

    def optimised(self) -> Mapping[str, tuple[Sequence[nn.Parameter], float]]:
        """Parameters and learning rate of each loss, by its name."""
        raise NotImplementedError

    def targets(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """(target, source) pairs for the soft update."""
        return ()

    def _forward(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"actions": self.policy.act(batch["obs"])}


class FusionLearner(TorchLearner):
    """The update of one algorithm: `losses` is all that an algorithm writes."""

    net: FusionModule
    generator: torch.Generator
    n_updates: int

    def build(self) -> None:
        """Make the networks from the seed, and the optimisers."""
        seed = int(self.config.seed or 0)
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.n_updates = 0
        super().build()
        net: Any = self.module[DEFAULT_MODULE_ID]
        self.net = cast(FusionModule, net.unwrapped() if hasattr(net, "unwrapped") else net)
        self._pairs = [(_values(target), _values(source)) for target, source in self.net.targets()]
        self._optimisers = {name: self.get_optimizer(DEFAULT_MODULE_ID, name) for name in self.net.optimised()}

    def configure_optimizers_for_module(self, module_id: str, config: AlgorithmConfig | None = None) -> None:
        """One Adam for each loss."""
        net: Any = self.module[module_id]
        for name, (parameters, rate) in net.optimised().items():
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters, lr=rate, fused=True),
                params=list(parameters),
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by the names of `optimised`; a name left out takes no step now. Others (`q`) are watched only."""
        raise NotImplementedError

    def prepare(self, columns: Mapping[str, Tensor]) -> None:
        """Look at the whole table once before training."""

    def next_values(self, batch: Batch) -> Tensor:
        """What the target networks say of `next_state`, `[K, B]`: K is 1, or the number of separately aimed critics."""
        raise NotImplementedError

    def rewards(self, batch: Batch) -> Tensor:
        """The reward each aims at, `[K, B]` or `[1, B]`."""
        return batch["reward"][None]

    def target(self, batch: Batch) -> Tensor:
        """y = r + gamma (1 - terminated) value(s'), `[K, B]`; with `trace`, the lambda-return that `refresh` wrote.

        A session that was cut (truncated) bootstraps; one that was left does not.
        """
        if "trace" in batch:
            return batch["trace"].T
        with torch.no_grad():
            gamma = float(self.net.settings["gamma"])
            return self.rewards(batch) + gamma * (1 - batch["terminated"]) * self.next_values(batch)

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Batch, fwd_out: Any) -> Tensor:
        """RLlib's name for the sum of the losses."""
        found = self.losses(batch)
        return torch.stack([found[name] for name in self._optimisers if name in found]).sum()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update; returns the losses before it, as scalars without a graph."""
        found = self.losses(batch)
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        stepping = [name for name in self._optimisers if name in found]
        torch.autograd.backward(torch.stack([found[name] for name in stepping]).sum())
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            self._average_gradients()
        for name in stepping:
            self._optimisers[name].step()
        self.n_updates += 1
        if self.n_updates % self.net.settings["target_every"] == 0:
            for target, source in self._pairs:
                torch._foreach_lerp_(target, source, self.net.settings["tau"])
        return {name: value.detach() for name, value in found.items()}

    def _average_gradients(self) -> None:
        """The mean of the workers' gradients, in one message."""
        grads = [p.grad for o in self._optimisers.values() for g in o.param_groups for p in g["params"] if p.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for grad, part in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def snapshot(self) -> dict[str, Any]:
        """Everything the next update depends on, as tensors and plain values."""
        return {
            "module": self.net.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "generator": self.generator.get_state(),
            "n_updates": self.n_updates,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self.net.load_state_dict(state["module"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.generator.set_state(state["generator"])
        self.n_updates = int(state["n_updates"])


def _values(net: nn.Module) -> list[Tensor]:
    return list(net.parameters())


def target_of(net: nn.Module) -> Any:
    """A copy that only soft updates change."""
    return deepcopy(net).requires_grad_(False)


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Within, nothing of `net` gets a gradient: what flows through it reaches its inputs only."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, session: Tensor, *, gamma: float, trace: float
) -> Tensor:
    """G_t = r_t + gamma (1 - terminated_t) ((1 - lambda) V(s_t+1) + lambda G_t+1), by session; the last row's G_t+1 is V(s_t+1).

    Not corrected for the difference between the logging and the learned policy (Peng's Q(lambda), Kozuno et al. 2021): what an
    action does to later pages is seen in the log rather than through the critic's idea of a state that hides it.

    Args:
        reward, next_value: `[K, n]`. terminated, session: `[n]`, sorted by session and step.

    >>> one = torch.ones(1, 2)
    >>> lambda_returns(one, 10 * one, torch.tensor([0.0, 1.0]), torch.tensor([7, 7]), gamma=0.5, trace=1.0).tolist()
    [[1.5, 1.0]]
    """
    alive = gamma * (1 - terminated)
    returns = reward + alive * next_value
    goes_on = torch.zeros(len(session), dtype=torch.bool)
    goes_on[:-1] = session[1:] == session[:-1]
    index = torch.arange(len(session))
    end = torch.where(goes_on, len(session), index).flip(0).cummin(0).values.flip(0)  # last row of each row's session
    left = end - index
    order = torch.argsort(left, stable=True)
    counts = torch.bincount(left)
    for rows in torch.split(order, counts.tolist())[1:]:
        mixed = (1 - trace) * next_value[:, rows] + trace * returns[:, rows + 1]
        returns[:, rows] = reward[:, rows] + alive[rows] * mixed
    return returns
