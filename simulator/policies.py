"""Policies for rollouts: constant actions, and the two ways of exploring whose true densities are logged.

Densities are those of the TRUNCATED distribution on [-1, 1]: clipping would pile mass on the bounds and have no density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from core.arrays import AnyArray, Floats, Floats32
from core.errors import ConfigError
from simulator.streams import Words, key, uniforms, words


@dataclass(frozen=True, slots=True)
class Draw:
    """The random numbers a policy may use: one stream per session and step, so that batches of any size draw the same."""

    keys: Words

    def uniform(self, n: int) -> Floats:
        """`[B, n]` numbers strictly between 0 and 1."""
        return uniforms(words(key(self.keys, 81), -(-n // 2)))[:, :n].astype(float)


@dataclass(frozen=True, slots=True)
class Action:
    """Actions `[B, n_params]` in [-1, 1], the density `[B]` they were drawn with (NaN: none), and what else to log, `[B]` or
    `[B, m]`."""

    action: Floats32
    propensity: Floats
    columns: Mapping[str, AnyArray] = field(default_factory=dict)


Policy = Callable[[Floats32, Draw], Action]
Baseline = npt.ArrayLike | Callable[[Floats32], Floats32]


def constant(action: npt.ArrayLike) -> Policy:
    """Always the same action; it has no density."""
    return deterministic(action)


def deterministic(baseline: Baseline) -> Policy:
    """Observation `[B, size]` -> action `[B, n_params]`, without exploration."""

    def act(obs: Floats32, draw: Draw) -> Action:
        chosen = _center(baseline, obs)
        return Action(chosen.astype(np.float32), np.full(len(obs), np.nan))

    return act


def mixed_exploration(baseline: Baseline, *, noise: float = 0.1, wide: float = 1.0, share: float = 0.5) -> Policy:
    """Mixed multi-exploration (BatchRL-MTF): with `share` a wide Gaussian around 0, else the baseline plus noise, truncated to
    [-1, 1].

    Logs `component` (1 wide, 0 near), `density_wide`, `density_near` and the `baseline` action; the propensity is the mixture's.
    """
    if noise <= 0 or wide <= 0 or not 0 <= share <= 1:
        raise ConfigError(f"noise {noise} and wide {wide} must be positive and share {share} lie in [0, 1]")

    def act(obs: Floats32, draw: Draw) -> Action:
        center = _center(baseline, obs)
        u = draw.uniform(1 + center.shape[1])
        is_wide = u[:, 0] < share
        mean = np.where(is_wide[:, None], 0.0, center)
        sd = np.where(is_wide, wide, noise)[:, None]
        low, high = ndtr((-1 - mean) / sd), ndtr((1 - mean) / sd)
        action = np.clip(mean + sd * ndtri(low + u[:, 1:] * (high - low)), -1, 1).astype(np.float32)
        wide_density = truncated_density(action, np.zeros_like(center), wide)
        near_density = truncated_density(action, center, noise)
        mixture = share * wide_density + (1 - share) * near_density
        logged = {"component": is_wide.astype(np.int64), "density_wide": wide_density, "density_near": near_density}
        return Action(action, mixture, {**logged, "baseline": center.astype(np.float32)})

    return act


def uniform_box(baseline: Baseline, *, half: float = 0.15) -> Policy:
    """Uniform within `half` of the baseline (UnifiedRL), cut at [-1, 1]; logs the `baseline` and the box's `box_low`,
    `box_high`."""
    if not 0 < half <= 2:
        raise ConfigError(f"half {half} must lie in (0, 2]; it is half the box's width in normalised actions")

    def act(obs: Floats32, draw: Draw) -> Action:
        center = _center(baseline, obs)
        low, high = np.maximum(center - half, -1), np.minimum(center + half, 1)
        action = low + draw.uniform(center.shape[1]) * (high - low)
        logged = {"baseline": center, "box_low": low, "box_high": high}
        density = 1 / np.prod(high - low, axis=1)
        return Action(action.astype(np.float32), density, {name: value.astype(np.float32) for name, value in logged.items()})

    return act


def truncated_density(action: AnyArray, mean: Floats, sd: float) -> Floats:
    """The joint density `[B]` of independent normals truncated to [-1, 1].

    >>> float(np.round(truncated_density(np.zeros((1, 1)), np.zeros((1, 1)), 1.0)[0], 4))
    0.5844
    """
    a = np.asarray(action, float)
    log_density = -0.5 * ((a - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
    log_density -= np.log(ndtr((1 - mean) / sd) - ndtr((-1 - mean) / sd))
    density: Floats = np.exp(log_density.sum(1))
    return density


def _center(baseline: Baseline, obs: Floats32) -> Floats:
    given = np.asarray(baseline(obs) if callable(baseline) else baseline, float)
    center: Floats = np.clip(np.broadcast_to(given, (len(obs), given.shape[-1])), -1, 1)
    return center
