"""Where parameters may lie, and which of them only matter up to scale: those are normalised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Param:
    """One free parameter and its range; `log` spaces it by ratio (both ends positive)."""

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"parameter {self.name!r}: range {self.low} .. {self.high} must be finite and ascending")
        if self.log and self.low <= 0:
            raise ConfigError(f"parameter {self.name!r}: a log range needs low above 0, it is {self.low}")


class Space:
    """The ranges of a formula's parameters.

    Args:
        params: In the order of the formula's parameters.
        scale_free: Groups of names whose common factor changes no ranking; each group is scaled to sum |w| = 1.

    >>> space = Space([Param("a"), Param("b"), Param("c", 0.001, 1.0, log=True)], scale_free=[["a", "b"]])
    >>> space.decode(np.array([[0.1, 0.3, 0.5]])).round(3).tolist()
    [[0.25, 0.75, 0.032]]
    """

    def __init__(self, params: Sequence[Param], scale_free: Sequence[Sequence[str]] = ()) -> None:
        self.params = tuple(params)
        self.names = tuple(param.name for param in params)
        if not params or len(set(self.names)) < len(self.names):
            raise ConfigError(f"a search space needs distinct parameters; got {', '.join(self.names) or 'none'}")
        self.scale_free = tuple(tuple(group) for group in scale_free)
        unknown = [name for group in self.scale_free for name in group if name not in self.names]
        if unknown:
            raise ConfigError(f"scale_free names {unknown[0]!r}; parameters are {', '.join(self.names)}")

    def __len__(self) -> int:
        return len(self.params)

    def decode(self, unit: Floats) -> Floats:
        """Points of the unit cube `[n, P]` to normalised parameter vectors `[n, P]`."""
        out = np.empty_like(unit, dtype=np.float64)
        for i, p in enumerate(self.params):
            x = np.clip(unit[:, i], 0.0, 1.0)
            out[:, i] = p.low * (p.high / p.low) ** x if p.log else p.low + (p.high - p.low) * x
        return self.normalise(out)

    def normalise(self, vectors: Floats) -> Floats:
        """Each scale-free group divided by its sum of absolute values (an all-zero group stays)."""
        out = np.array(vectors, dtype=np.float64)
        for group in self.scale_free:
            columns = [self.names.index(name) for name in group]
            total = np.abs(out[:, columns]).sum(axis=1, keepdims=True)
            out[:, columns] /= np.where(total > 0, total, 1.0)
        return out

    def as_dict(self, vector: Floats) -> dict[str, float]:
        """One vector by name."""
        return dict(zip(self.names, np.asarray(vector, dtype=float).tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        params = [{"name": p.name, "low": p.low, "high": p.high, "log": p.log} for p in self.params]
        return {"params": params, "scale_free": [list(group) for group in self.scale_free]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Space:
        """The inverse of `to_json`."""
        try:
            return cls([Param(**param) for param in value["params"]], value.get("scale_free", ()))
        except (KeyError, TypeError) as error:
            raise ConfigError(f"a search space needs params (name, low, high, log) and scale_free; got {value!r:.200}") from error
