"""Fitted Q evaluation with a small network: features are learned, and several seeds show how much that matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from core.arrays import Floats
from core.errors import ConfigError
from fusion.ope.episodes import Episodes
from fusion.ope.features import Features
from fusion.ope.target import Target


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`rounds` of `updates` Adam steps each; the target network is renewed after each round (Le, Voloshin & Yue 2019)."""

    hidden: tuple[int, ...] = (64, 64)
    rounds: int = 30
    updates: int = 60
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.rounds, self.updates, self.batch, *self.hidden) < 1 or self.learning_rate <= 0:
            raise ConfigError(f"{self}: sizes must be at least 1 and the learning rate above 0")


def network_fqe(
    episodes: Episodes,
    target: Target,
    features: Features,
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    gamma: float = 1.0,
    settings: NetworkSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> Floats:
    """The policy's value by fitted Q evaluation, one a seed, `[n_seeds]`.

    Each round fits Q to `r + gamma * Q_old(s', pi(s'))` (0 after a session's last page) by least squares on minibatches of pages;
    `V = mean Q(s_0, pi(s_0))`.
    """
    context = features.context(episodes)
    logged = features(episodes.obs, episodes.action, episodes.scores, context)
    mean, spread = logged.mean(0), logged.std(0)
    spread[spread < 1e-6] = 1.0
    acted = features(episodes.obs, target.sample(episodes.obs, np.random.default_rng(seeds[0])), episodes.scores, context)
    x, x_pi = (torch.from_numpy(((part - mean) / spread).astype(np.float32)) for part in (logged, acted))  # (n, d)
    scale = float(np.abs(episodes.reward).mean()) or 1.0
    reward = torch.from_numpy((episodes.reward / scale).astype(np.float32))
    inner = np.ones(len(episodes), bool)
    inner[episodes.last] = False
    goes_on = torch.from_numpy(inner.astype(np.float32))
    after = torch.from_numpy(np.minimum(np.arange(len(episodes)) + 1, len(episodes) - 1))
    first = torch.from_numpy(episodes.first)
    found = []
    for seed in seeds:
        q = _fit(x, x_pi, reward, goes_on, after, gamma, settings or NetworkSettings(), seed)
        with torch.no_grad():
            found.append(float(q(x_pi[first]).mean()) * scale)
        if progress is not None:
            progress(seed)
    return np.array(found)


def _fit(
    x: Tensor, x_pi: Tensor, reward: Tensor, goes_on: Tensor, after: Tensor, gamma: float, s: NetworkSettings, seed: int
) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    q = _network(x.shape[1], s.hidden, generator)
    optimiser = torch.optim.Adam(q.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    for _ in range(s.rounds):
        with torch.no_grad():
            goal = reward + gamma * goes_on * q(x_pi).squeeze(1)[after]  # (n,)
        for _ in range(s.updates):
            rows = torch.randint(len(x), (s.batch,), generator=generator)
            loss = ((q(x[rows]).squeeze(1) - goal[rows]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return q


def _network(n_in: int, hidden: tuple[int, ...], generator: torch.Generator) -> nn.Module:
    sizes = (n_in, *hidden, 1)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layer = nn.Linear(a, b)
        nn.init.normal_(layer.weight, std=(2.0 / a) ** 0.5 if i < len(hidden) else 0.01, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()] if i < len(hidden) else [layer]
    return nn.Sequential(*layers)
