"""The policy to be evaluated: a mean action, and the noise it is declared to act with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError


class HasAction(Protocol):
    """What a noise draws."""

    @property
    def action(self) -> AnyArray:
        """`[n, d]`."""


class Noise(Protocol):
    """A distribution over [-1, 1]^d around a mean; `fusion.policy.exploration.Exploration` is one."""

    def sample(self, mean: AnyArray, rng: np.random.Generator) -> HasAction:
        """Actions `[n, d]` around means `[n, d]`."""

    def density(self, action: AnyArray, mean: AnyArray) -> Floats:
        """Their densities `[n]`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A policy to evaluate.

    Attributes:
        name: What the table calls it.
        mean: States `[n, n_obs]` -> actions `[n, n_params]` in [-1, 1].
        noise: How it explores; None acts deterministically, and then has no density.
        smoothed: The noise is not the policy's own but a kernel laid over it (see `smooth`).
        params: What its action's columns are called, where that is known.

    >>> Target("still", lambda obs: np.zeros((len(obs), 2))).act(np.ones((3, 4), np.float32)).shape
    (3, 2)
    """

    name: str
    mean: Callable[[Floats32], AnyArray]
    noise: Noise | None = None
    smoothed: bool = False
    params: tuple[str, ...] = ()

    def act(self, obs: Floats32) -> Floats:
        """Mean actions `[n, n_params]`.

        Raises:
            ConfigError: They are not one finite action a state within [-1, 1].
        """
        mean = np.asarray(self.mean(obs), np.float64)
        if mean.ndim != 2 or len(mean) != len(obs) or not np.isfinite(mean).all():
            raise ConfigError(f"policy {self.name!r} gave actions of shape {mean.shape}; it needs [{len(obs)}, n] finite numbers")
        worst = float(np.abs(mean).max(initial=0.0))
        if worst > 1 + 1e-4:
            raise ConfigError(f"policy {self.name!r} acts at {worst:.4g}; actions must lie in [-1, 1]")
        return np.clip(mean, -1.0, 1.0)

    def sample(self, obs: Floats32, rng: np.random.Generator) -> Floats:
        """Actions `[n, n_params]` as the policy would draw them."""
        mean = self.act(obs)
        return mean if self.noise is None else np.asarray(self.noise.sample(mean, rng).action, np.float64)

    def density(self, action: AnyArray, obs: Floats32) -> Floats:
        """Density `[n]` of actions under the policy; NaN where it has none."""
        if self.noise is None:
            return np.full(len(obs), np.nan)
        return np.asarray(self.noise.density(action, self.act(obs)), np.float64)

    def smooth(self, kernel: Noise) -> Self:
        """The policy with a kernel laid over it: a deterministic policy's importance weights become `K(a - pi(s)) / pi_0(a|s)`.

        What is then estimated is the value of the smoothed policy; the bias vanishes with the kernel's width, the variance grows
        (Kallus & Zhou 2018).
        """
        return replace(self, noise=kernel, smoothed=True)
