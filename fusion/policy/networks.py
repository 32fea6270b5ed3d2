"""The networks of batch-RL policies as plain torch modules: what is trained is what is served, without RLlib.

A policy's net reads observations `[B, n_obs]` in their own units (it standardises them itself) and gives actions `[B, n_params]`
in [-1, 1]. `to_config` and its state are all that an artefact needs; `build` is the inverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError

ALL, FIRST = slice(None), slice(0, 1)  # members of a `Joint` or an `ActionForm`
Z_BOUND = 0.5  # latent codes are clipped to this when actions are sampled, never while the VAE is trained


class PolicyNet(nn.Module):
    """What is deployed. `act` is deterministic given its generator; without one it never draws anything but where it must."""

    kind = ""

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Observations `[B, n_obs]` to actions `[B, n_params]` in [-1, 1]."""
        raise NotImplementedError

    def to_config(self) -> dict[str, Any]:
        """Everything `build` needs beside the state."""
        raise NotImplementedError


class Standardise(nn.Module):
    """(obs - mean) / scale, clipped to +-5; the statistics are part of the state."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_obs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_obs))
        self.register_buffer("scale", torch.ones(n_obs))

    def fit(self, obs: Tensor) -> None:
        """Take mean and standard deviation of `[n, n_obs]`; a constant column keeps scale 1."""
        spread = obs.std(0, correction=0)
        self.mean.copy_(obs.mean(0))
        self.scale.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, obs: Tensor) -> Tensor:
        """`[B, n_obs]` to `[B, n_obs]`."""
        return ((obs - self.mean) / self.scale).clamp(-5.0, 5.0)


class Joint(nn.Module):
    """`m` equal MLPs of a state and something else (an action, a latent code), all in one batched product.

    The first layer is split, so that ten actions of one state share the state's half of it.
    """

    def __init__(self, n_state: int, n_other: int, hidden: Sequence[int], n_out: int, m: int = 1) -> None:
        super().__init__()
        if not hidden or m < 1:
            raise ConfigError(f"hidden {list(hidden)} needs at least one layer and m {m} at least one member")
        fan_in = n_state + n_other
        self.m = m
        self.state_weight = nn.Parameter(_uniform((m, n_state, hidden[0]), fan_in))
        self.other_weight = nn.Parameter(_uniform((m, n_other, hidden[0]), fan_in))
        self.first_bias = nn.Parameter(_uniform((m, 1, hidden[0]), fan_in))
        sizes = [*hidden, n_out]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList([nn.Parameter(_uniform((m, a, b), a)) for a, b in pairs])
        self.biases = nn.ParameterList([nn.Parameter(_uniform((m, 1, b), a)) for a, b in pairs])

    def forward(self, state: Tensor, other: Tensor, members: slice = ALL) -> Tensor:
        """State `[B, n_state]` and `other` `[B, K, n_other]` to `[m, B, K, n_out]`, of some members only where asked."""
        n, k = other.shape[:2]
        own = torch.matmul(state, _of(self.state_weight, members)).add_(_of(self.first_bias, members))  # (m, B, H)
        h = torch.matmul(other.flatten(0, 1), _of(self.other_weight, members))  # (m, B * K, H)
        m, _, width = h.shape
        h = h.view(m, n, k, width).add_(own[:, :, None]).relu_().view(m, n * k, width)
        out = self._deep(h, members)
        return out.view(m, n, k, out.shape[-1])

    def rows(self, state: Tensor, other: Tensor, row: Tensor, member: int) -> Tensor:
        """One member's answers `[R, n_out]` to pairs of a state's number `[R]` and `other` `[R, n_other]`."""
        only = slice(member, member + 1)
        own = torch.matmul(state, self.state_weight[only]).add_(self.first_bias[only])  # (1, B, H)
        h = torch.matmul(other, self.other_weight[only]).add_(own[:, row]).relu_()  # (1, R, H)
        return self._deep(h, only)[0]

    def _deep(self, h: Tensor, members: slice) -> Tensor:
        *before, last = (
            (_of(bias, members), _of(weight, members)) for bias, weight in zip(self.biases, self.weights, strict=True)
        )
        for bias, weight in before:
            h = torch.baddbmm(bias, h, weight).relu_()
        return torch.baddbmm(last[0], h, last[1])


class ActionForm(nn.Module):
    """Critics whose dependence on the action has a form (ours, not the papers'): Q_j(s, a) = v_j(s) + b_j(s) f(a).

    `linear`: f(a) = a. `quadratic`: less c_j(s) f(a)^2 / 2 with c_j > 0. `direction`: f(a) is the unit vector of the weights
    that `a` stands for, each as a share of its largest value: a formula that is linear in its weights ranks alike whatever
    their scale, so the value cannot depend on it. `gate` are the columns of the state that may tilt the action's effect, all
    by default.
    """

    gate: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        form: str,
        n_state: int,
        n_params: int,
        hidden: Sequence[int],
        m: int,
        *,
        gate: Sequence[int] | None = None,
        ranges: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.form, self.m, self.n_params = form, m, n_params
        if form == "direction" and ranges is None:
            raise ConfigError("a direction critic needs the ranges of the weights, [low, high]")
        low, high = torch.tensor(ranges or [[-1.0] * n_params, [1.0] * n_params], dtype=torch.float32)
        largest = torch.maximum(low.abs(), high.abs())
        columns = list(range(n_state)) if gate is None else list(gate)
        self.register_buffer("gate", torch.tensor(columns, dtype=torch.int64))
        self.register_buffer("low", low / largest)
        self.register_buffer("high", high / largest)
        self.value = Joint(n_state, 1, hidden, 1, m)
        n_out = n_params * (2 if form == "quadratic" else 1)
        self.tilt_weight = nn.Parameter(torch.zeros(m, len(columns), n_out))
        self.tilt_bias = nn.Parameter(torch.zeros(m, 1, n_out))

    def features(self, action: Tensor) -> Tensor:
        """f(a), `[..., n_params]`."""
        if self.form != "direction":
            return action
        weights = self.low + (action + 1) * 0.5 * (self.high - self.low)
        length = torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
        unit: Tensor = weights / length.clamp(min=1e-3)
        return unit

    def forward(self, state: Tensor, action: Tensor, members: slice = ALL) -> Tensor:
        """State `[B, n_state]`, actions `[B, K, n_params]` to `[m, B, K, 1]`, of some members only where asked."""
        value = self.value(state, state.new_zeros(len(state), 1, 1), members)  # (m, B, 1, 1)
        weight, bias = _of(self.tilt_weight, members), _of(self.tilt_bias, members)
        tilt = (torch.matmul(state[:, self.gate], weight) + bias)[:, :, None]  # (m, B, 1, P or 2 P)
        f = self.features(action)
        q: Tensor = value + (tilt[..., : self.n_params] * f).sum(-1, keepdim=True)
        if self.form == "quadratic":
            q = q - 0.5 * (nn.functional.softplus(tilt[..., self.n_params :]) * f**2).sum(-1, keepdim=True)
        return q


CRITIC_FORMS = ("mlp", "linear", "quadratic", "direction")  # mlp is the papers'


def critics(
    form: str,
    n_state: int,
    n_params: int,
    hidden: Sequence[int],
    m: int,
    *,
    gate: Sequence[int] | None = None,
    ranges: Sequence[Sequence[float]] | None = None,
) -> Joint | ActionForm:
    """`m` critics Q_j(s, a): plain MLPs, or of a form in the action.

    Raises:
        ConfigError: The form is unknown, or lacks the ranges it needs.
    """
    if form not in CRITIC_FORMS:
        raise ConfigError(f"unknown critic {form!r}; critics are {', '.join(CRITIC_FORMS)}")
    if form == "mlp":
        return Joint(n_state, n_params, hidden, 1, m)
    return ActionForm(form, n_state, n_params, hidden, m, gate=gate, ranges=ranges)


class Constant(PolicyNet):
    """The same action for everybody: hand-set weights, grid, GP-UCB, CEM."""

    kind = "constant"
    action: Tensor

    def __init__(self, n_obs: int, n_params: int) -> None:
        super().__init__()
        self.n_obs, self.n_params = n_obs, n_params
        self.register_buffer("action", torch.zeros(n_params))

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The action, once per row."""
        return self.action.expand(len(obs), -1)

    def to_config(self) -> dict[str, Any]:
        """See `PolicyNet`."""
        return {"kind": self.kind, "n_obs": self.n_obs, "n_params": self.n_params}


class Actor(PolicyNet):
    """tanh of an MLP of the standardised observation; no hidden layer makes it linear. With `std`, a Gaussian before the tanh.

    What is deployed is the mean.
    """

    kind = "actor"

    def __init__(self, n_obs: int, n_params: int, hidden: Sequence[int], *, std: bool = False) -> None:
        super().__init__()
        self.n_obs, self.n_params, self.hidden, self.std = n_obs, n_params, list(hidden), std
        self.standardise = Standardise(n_obs)
        sizes = [n_obs, *hidden, n_params * (2 if std else 1)]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def raw(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, from a standardised state; the latter is empty without `std`."""
        out: Tensor = self.layers(state)
        return out[:, : self.n_params], out[:, self.n_params :].clamp(-5.0, 2.0)

    def mean_action(self, state: Tensor) -> Tensor:
        """tanh of the mean, from a standardised state."""
        return torch.tanh(self.raw(state)[0])

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PolicyNet`."""
        return self.mean_action(self.standardise(obs))

    def to_config(self) -> dict[str, Any]:
        """See `PolicyNet`."""
        sizes = {"n_obs": self.n_obs, "n_params": self.n_params, "hidden": self.hidden}
        return {"kind": self.kind, **sizes, "std": self.std}


class Bcq(PolicyNet):
    """Batch-constrained Q-learning (Fujimoto et al. 2019, as in BatchRL-MTF): the best of `n_samples` perturbed likely actions.

    A conditional VAE (encoder E(z | s, a), decoder D(a | s, z)) generates actions like the logged ones, the perturbation net
    xi(s, a) in [-rho, rho] moves them uphill, and the first critic chooses.
    """

    kind = "bcq"

    def __init__(
        self,
        n_obs: int,
        n_params: int,
        hidden: Sequence[int],
        *,
        vae_hidden: Sequence[int] | None = None,
        n_samples: int = 10,
        rho: float = 0.15,
        critic: str = "mlp",
        gate: Sequence[int] | None = None,
        ranges: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.n_obs, self.n_params, self.hidden, self.n_samples, self.rho = n_obs, n_params, list(hidden), n_samples, rho
        self.vae_hidden, self.critic_form = list(vae_hidden or hidden), critic
        self.gate, self.ranges = None if gate is None else list(gate), None if ranges is None else [list(x) for x in ranges]
        self.n_latent = 2 * n_params
        self.standardise = Standardise(n_obs)
        self.encoder = Joint(n_obs, n_params, self.vae_hidden, 2 * self.n_latent)
        self.decoder = Joint(n_obs, self.n_latent, self.vae_hidden, n_params)
        self.perturbation = Joint(n_obs, n_params, hidden, n_params)
        self.critics = critics(critic, n_obs, n_params, hidden, 2, gate=gate, ranges=ranges)

    def encode(self, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation `[B, n_latent]` of the code of a logged action `[B, n_params]`."""
        out = self.encoder(state, action[:, None])[0, :, 0]
        return out[:, : self.n_latent], out[:, self.n_latent :].clamp(-4.0, 15.0)

    def decode(self, state: Tensor, z: Tensor) -> Tensor:
        """Codes `[B, K, n_latent]` to actions `[B, K, n_params]`."""
        return torch.tanh(self.decoder(state, z)[0])

    def codes(self, state: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """`k` codes a state, `[B, k, n_latent]`, drawn from N(0, 1) and clipped to +-.5."""
        z = torch.randn(len(state), k, self.n_latent, generator=generator, dtype=state.dtype, device=state.device)
        return z.clamp_(-Z_BOUND, Z_BOUND)

    def sample(self, state: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """`k` likely actions a state, `[B, k, n_params]`."""
        return self.decode(state, self.codes(state, k, generator))

    def perturb(self, state: Tensor, action: Tensor, net: Joint | None = None) -> Tensor:
        """Actions `[B, K, n_params]` moved by at most `rho` each way and clipped to [-1, 1]; `net` may be the target's."""
        moved = action + self.rho * torch.tanh((net or self.perturbation)(state, action)[0])
        return moved.clamp(-1.0, 1.0)

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The sampled action that the first critic likes best."""
        state = self.standardise(obs)
        tries = self.perturb(state, self.sample(state, self.n_samples, generator))  # (B, n, P)
        best = self.critics(state, tries, FIRST)[0, :, :, 0].argmax(1)
        return tries[torch.arange(len(obs)), best]

    def to_config(self) -> dict[str, Any]:
        """See `PolicyNet`."""
        sizes = {"n_obs": self.n_obs, "n_params": self.n_params, "hidden": self.hidden, "vae_hidden": self.vae_hidden}
        choice = {"n_samples": self.n_samples, "rho": self.rho, "critic": self.critic_form}
        return {"kind": self.kind, **sizes, **choice, "gate": self.gate, "ranges": self.ranges}


class Direction(PolicyNet):
    """Weights in proportion to b(s), linear in some columns of the state: what a direction critic likes best.

    b is measured in shares of each weight's largest value. Its negative part (for a weight from 0 to 1) is cut, the largest part
    that is left becomes 1: scale changes no ranking. Where nothing is left, the middle of the ranges.
    """

    kind = "direction"
    gate: Tensor
    low: Tensor
    high: Tensor
    tilt: Tensor

    def __init__(self, n_obs: int, n_params: int, gate: Sequence[int], ranges: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.n_obs, self.n_params, self.ranges = n_obs, n_params, [list(bounds) for bounds in ranges]
        low, high = torch.tensor(self.ranges, dtype=torch.float32)
        largest = torch.maximum(low.abs(), high.abs())
        self.register_buffer("gate", torch.tensor(list(gate), dtype=torch.int64))
        self.register_buffer("low", low / largest)
        self.register_buffer("high", high / largest)
        self.register_buffer("tilt", torch.zeros(len(gate) + 1, n_params))  # the constant last

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PolicyNet`."""
        b = torch.addmm(self.tilt[-1], obs[:, self.gate], self.tilt[:-1])  # (B, P)
        wanted = torch.where(((b < 0) & (self.low >= 0)) | ((b > 0) & (self.high <= 0)), torch.zeros_like(b), b)
        size = wanted.abs().amax(1, keepdim=True)
        weights = torch.minimum(torch.maximum(wanted / size.clamp(min=1e-12), self.low), self.high)
        action = 2 * (weights - self.low) / (self.high - self.low) - 1
        return torch.where(size > 1e-12, action, torch.zeros_like(action))

    def to_config(self) -> dict[str, Any]:
        """See `PolicyNet`."""
        sizes = {"n_obs": self.n_obs, "n_params": self.n_params, "gate": self.gate.tolist()}
        return {"kind": self.kind, **sizes, "ranges": self.ranges}


NETS: Mapping[str, type[PolicyNet]] = {"constant": Constant, "actor": Actor, "bcq": Bcq, "direction": Direction}


def build(config: Mapping[str, Any]) -> PolicyNet:
    """The net of a configuration, untrained: load its state, or train it.

    Raises:
        ConfigError: The kind or a setting is unknown.

    >>> net = build({"kind": "actor", "n_obs": 3, "n_params": 2, "hidden": [8]})
    >>> net.act(torch.zeros(5, 3)).shape, build(net.to_config()).to_config() == net.to_config()
    (torch.Size([5, 2]), True)
    """
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in NETS:
        raise ConfigError(f"unknown policy net {kind!r}; nets are {', '.join(NETS)}")
    try:
        return NETS[kind](**{name: value for name, value in config.items() if name != "kind"})
    except TypeError as error:
        raise ConfigError(f"policy net {kind!r}: {error}") from error


def constant(action: Sequence[float], n_obs: int) -> Constant:
    """A policy that always answers `action`."""
    net = Constant(n_obs, len(action))
    net.action.copy_(torch.as_tensor(action, dtype=torch.float32))
    return net


def _of(parameter: Tensor, members: slice) -> Tensor:
    return parameter if members == ALL else parameter[members]  # a slice of everything would copy its gradient


def _uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
    bound = float(max(fan_in, 1)) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound)
