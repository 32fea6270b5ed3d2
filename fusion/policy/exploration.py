"""Exploration with true densities: mixtures of Gaussians and boxes, truncated to [-1, 1] and renormalised.

Clipping a draw would pile mass on the bounds and have no density; here every draw is inside and its density integrates to 1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from scipy.special import ndtr, ndtri

from core.arrays import AnyArray, Floats, Floats32, Ints
from core.errors import ConfigError

_ROOT_2_PI = math.sqrt(2 * math.pi)
_ROUNDING = 1e-6  # float32 actions of a box may touch its bounds from outside


class Component(Protocol):
    """One way of drawing an action near a mean action."""

    kind: ClassVar[str]

    def draw(self, mean: Floats, uniform: Floats) -> Floats:
        """Means and uniform numbers `[B, n_params]` -> actions `[B, n_params]` in [-1, 1]."""

    def density(self, action: Floats, mean: Floats) -> Floats:
        """The joint density `[B]` of actions `[B, n_params]`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normals of standard deviation `sd` around the mean action or around 0 (`around="zero"`), truncated to [-1, 1].

    The density is prod_i phi((a_i - m_i) / sd) / (sd (Phi((1 - m_i) / sd) - Phi((-1 - m_i) / sd))).

    >>> near = Gaussian(0.1)
    >>> float(near.density(np.zeros((1, 1)), np.zeros((1, 1)))[0].round(4))
    3.9894
    """

    kind: ClassVar[str] = "gaussian"
    sd: float
    around: str = "baseline"

    def __post_init__(self) -> None:
        if not self.sd > 0 or self.around not in ("baseline", "zero"):
            raise ConfigError(f"gaussian exploration: sd {self.sd} must be above 0 and around {self.around!r} baseline or zero")

    def draw(self, mean: Floats, uniform: Floats) -> Floats:
        """See `Component`."""
        m = self._center(mean)
        low, high = ndtr((-1 - m) / self.sd), ndtr((1 - m) / self.sd)
        drawn: Floats = np.minimum(np.maximum(m + self.sd * ndtri(low + uniform * (high - low)), -1), 1)
        return drawn

    def density(self, action: Floats, mean: Floats) -> Floats:
        """See `Component`."""
        m = self._center(mean)
        mass = (ndtr((1 - m) / self.sd) - ndtr((-1 - m) / self.sd)) * (self.sd * _ROOT_2_PI)  # (B, P)
        density: Floats = (np.exp(-0.5 * ((action - m) / self.sd) ** 2) / mass).prod(1)
        return density * (np.abs(action) <= 1 + _ROUNDING).all(1)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": self.kind, "sd": self.sd, "around": self.around}

    def _center(self, mean: Floats) -> Floats:
        return mean if self.around == "baseline" else np.zeros((1, mean.shape[1]))


@dataclass(frozen=True, slots=True)
class Box:
    """Uniform within `half` of the mean action, cut at [-1, 1] (UnifiedRL's box, half .15).

    >>> Box(0.25).density(np.array([[0.9]]), np.array([[0.95]])).round(4).tolist()
    [3.3333]
    """

    kind: ClassVar[str] = "box"
    half: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.half <= 2:
            raise ConfigError(f"box exploration: half {self.half} must lie in (0, 2]; it is half the box's width")

    def draw(self, mean: Floats, uniform: Floats) -> Floats:
        """See `Component`."""
        low, high = self._bounds(mean)
        drawn: Floats = low + uniform * (high - low)
        return drawn

    def density(self, action: Floats, mean: Floats) -> Floats:
        """See `Component`."""
        low, high = self._bounds(mean)
        inside = ((action >= low - _ROUNDING) & (action <= high + _ROUNDING)).all(1)
        density: Floats = inside / (high - low).prod(1)
        return density

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": self.kind, "half": self.half}

    def _bounds(self, mean: Floats) -> tuple[Floats, Floats]:
        return np.maximum(mean - self.half, -1), np.minimum(mean + self.half, 1)


class Drawn(NamedTuple):
    """Actions `[B, n_params]` float32, the component `[B]` each came from, that component's density and the mixture's, `[B]`."""

    action: Floats32
    component: Ints
    component_density: Floats
    density: Floats


class Exploration:
    """A mixture of components around a mean action.

    Args:
        components: By name, with the share of requests each one draws for; shares sum to 1.

    Attributes:
        box: Half the width of the box that holds every action; NaN where actions are not boxed.

    >>> drawn = mixed().sample(np.zeros((2, 3)), np.random.default_rng(0))
    >>> drawn.action.shape, bool((np.abs(drawn.action) <= 1).all())
    ((2, 3), True)
    """

    def __init__(self, components: Mapping[str, tuple[float, Component]]) -> None:
        self.names = tuple(components)
        self.shares: Floats = np.array([share for share, _ in components.values()], float)
        self.parts: Sequence[Component] = [part for _, part in components.values()]
        if not self.names or (self.shares < 0).any() or abs(self.shares.sum() - 1) > 1e-9:
            raise ConfigError(f"exploration shares {self.shares.tolist()} must not be negative and sum to 1")
        self._edges = np.cumsum(self.shares)[:-1]
        self.box = self._box()

    def _box(self) -> float:
        halves = [
            part.half if isinstance(part, Box) else np.nan for part, share in zip(self.parts, self.shares, strict=True) if share
        ]
        return float(np.max(halves))

    def sample(self, mean: AnyArray, rng: np.random.Generator) -> Drawn:
        """Explore around means `[B, n_params]` with random numbers of a generator."""
        shape = np.shape(mean)
        return self.draw(mean, rng.random((shape[0], 1 + shape[1])))

    def draw(self, mean: AnyArray, uniform: Floats) -> Drawn:
        """Explore around means `[B, n_params]` with uniform numbers `[B, 1 + n_params]`: the first chooses the component."""
        center = np.minimum(np.maximum(np.asarray(mean, float), -1), 1)
        chosen = np.searchsorted(self._edges, uniform[:, 0], side="right")
        action = np.empty(center.shape, np.float32)
        for index, part in enumerate(self.parts):
            rows = np.flatnonzero(chosen == index)
            if len(rows):
                action[rows] = part.draw(center[rows], uniform[rows, 1:])
        densities = self._densities(action, center)
        return Drawn(action, chosen, densities[chosen, np.arange(len(action))], self.shares @ densities)

    def density(self, action: AnyArray, mean: AnyArray) -> Floats:
        """The mixture's density `[B]` of actions `[B, n_params]` around means `[B, n_params]`."""
        mixture: Floats = self.shares @ self._densities(action, np.clip(np.asarray(mean, float), -1, 1))
        return mixture

    def _densities(self, action: AnyArray, center: Floats) -> Floats:
        a = np.asarray(action, float)
        return np.array([part.density(a, center) for part in self.parts])  # (components, B)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        parts = zip(self.names, self.shares.tolist(), self.parts, strict=True)
        return {name: {"share": share, **part.to_json()} for name, share, part in parts}

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, Any]]) -> Self:
        """The inverse of `to_json`."""
        return cls({name: _component(name, part) for name, part in value.items()})


def mixed(*, near: float = 0.1, wide: float = 1.0, wide_share: float = 0.5) -> Exploration:
    """BatchRL-MTF's mixed multi-exploration: a share of wide random Gaussians, else the baseline plus noise."""
    return Exploration({"wide": (wide_share, Gaussian(wide, "zero")), "near": (1 - wide_share, Gaussian(near))})


def boxed(half: float = 0.15) -> Exploration:
    """UnifiedRL's uniform box around the baseline."""
    return Exploration({"box": (1.0, Box(half))})


def uniforms_of(text: str, n: int, salt: str = "") -> Floats:
    """`n` uniform numbers strictly between 0 and 1 that depend on a text alone: the randomness of one request, repeatable.

    >>> uniforms_of("r1", 2).tolist() == uniforms_of("r1", 3)[:2].tolist(), uniforms_of("r1", 1) == uniforms_of("r2", 1)
    (True, array([False]))
    """
    key = f"{salt}\x00{text}".encode()
    blocks = [hashlib.blake2b(key, salt=block.to_bytes(8, "big")).digest() for block in range(-(-n // 8))]  # 8 words of 8 bytes
    whole = np.frombuffer(b"".join(blocks), "<u8")[:n] >> np.uint64(11)
    uniform: Floats = (whole.astype(float) + 0.5) / 2**53
    return uniform


COMPONENTS: Mapping[str, type[Gaussian] | type[Box]] = {"gaussian": Gaussian, "box": Box}


def _component(name: str, value: Mapping[str, Any]) -> tuple[float, Component]:
    settings = {key: entry for key, entry in value.items() if key not in ("share", "kind")}
    kind = str(value.get("kind"))
    if kind not in COMPONENTS or "share" not in value:
        raise ConfigError(f"exploration {name!r} needs a share and a kind among {', '.join(COMPONENTS)}; got {dict(value)}")
    try:
        return float(value["share"]), COMPONENTS[kind](**settings)
    except TypeError as error:
        raise ConfigError(f"exploration {name!r}: {error}") from error
