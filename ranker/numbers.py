"""Dense features: standardised, log-scaled, binned, or opened into piecewise linear quantile steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.arrays import AnyArray, Floats, Floats32, Ints
from core.errors import DataError
from ranker.features import Feature


@dataclass(frozen=True, slots=True)
class Numbers:
    """Statistics of one number over the training rows: mean, standard deviation and, for bins and steps, quantile edges."""

    mean: float
    std: float
    edges: Floats = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def fit(cls, feature: Feature, column: AnyArray) -> Numbers:
        """Learn from the training values; holes are left out."""
        values = _numbers(feature, column)
        values = values[~np.isnan(values)]
        if not len(values):
            raise DataError(f"feature {feature.name!r} is empty in every training row; remove it")
        edges = np.zeros(0)
        n_edges = (feature.bins - 1) if feature.bins else feature.steps + 1 if feature.transform == "piecewise" else 0
        if n_edges:
            quantiles = np.linspace(0, 1, n_edges + 2)[1:-1] if feature.bins else np.linspace(0, 1, n_edges)
            edges = _edges(values, quantiles)
        scaled = _scale(feature, values)
        std = float(scaled.std())
        return cls(float(scaled.mean()), std if std > 1e-12 else 1.0, edges)

    def width(self, feature: Feature) -> int:
        """Numbers it adds to the input."""
        steps = max(len(self.edges) - 1, 1) if feature.transform == "piecewise" else 1
        return steps + (feature.missing == "fill")

    def encode(self, feature: Feature, column: AnyArray) -> Floats32:
        """`[n, width]`; a filled hole is the mean, told apart by an indicator in the last column."""
        values = _numbers(feature, column)
        hole = np.isnan(values)
        if feature.missing == "error" and hole.any():
            raise DataError(f"feature {feature.name!r} is NaN in row {int(np.argmax(hole))}; fill it, or declare missing: fill")
        if feature.transform == "piecewise":
            low, high = (self.edges[:-1], self.edges[1:]) if len(self.edges) > 1 else (np.zeros(1), np.ones(1))
            out = np.clip((values[:, None] - low) / (high - low), 0, 1)  # (n, steps): 1 below the value's step, its share inside
        elif feature.transform == "none":
            out = values[:, None]
        else:
            out = ((_scale(feature, values) - self.mean) / self.std)[:, None]
        if feature.missing == "fill":
            out = np.concatenate([np.where(hole[:, None], 0.0, out), hole[:, None]], 1)
        return out.astype(np.float32)

    def bin(self, feature: Feature, column: AnyArray) -> AnyArray:
        """The quantile bin of each value, `[n]`; a hole is NaN and gets the row of missing ids."""
        values = _numbers(feature, column)
        found: Ints = np.searchsorted(self.edges, values, side="right")
        hole = np.isnan(values)
        if not hole.any():
            return found
        if feature.missing == "error":
            raise DataError(f"feature {feature.name!r} is NaN in row {int(np.argmax(hole))}; fill it, or declare missing: fill")
        return np.where(hole, np.nan, found)

    def shift(self, feature: Feature, column: AnyArray, min_rows: int = 1) -> float:
        """How many training deviations the mean of these values lies from the training mean; 0 for fewer than `min_rows`."""
        values = _numbers(feature, column)
        values = values[~np.isnan(values)]
        return float((_scale(feature, values).mean() - self.mean) / self.std) if len(values) >= min_rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"mean": self.mean, "std": self.std, "edges": self.edges.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Numbers:
        """The inverse of `to_json`."""
        return cls(value["mean"], value["std"], np.array(value["edges"], float))


def _edges(values: Floats, quantiles: Floats) -> Floats:
    """Quantiles in which one frequent value (a zero, mostly) counts for one step at most, so that the others keep theirs."""
    found, count = np.unique(values, return_counts=True)
    if len(found) <= len(quantiles):
        return found
    cap = float(len(values))
    for _ in range(20):  # to its fixed point: no value weighs more than a step of what is left
        cap = float(np.minimum(count, cap).sum()) / len(quantiles)
    mass = np.cumsum(np.minimum(count, cap))
    return np.unique(found[np.minimum(np.searchsorted(mass, quantiles * mass[-1] - 1e-9), len(found) - 1)])


def _numbers(feature: Feature, column: AnyArray) -> Floats:
    try:
        values = np.asarray(column, float)
    except (TypeError, ValueError) as error:
        raise DataError(f"feature {feature.name!r} reads text in column {feature.column!r}; declare it sparse") from error
    if np.isinf(values).any():
        raise DataError(f"feature {feature.name!r} is infinite in row {int(np.argmax(np.isinf(values)))}; numbers must be finite")
    return values


def _scale(feature: Feature, values: Floats) -> Floats:
    if feature.transform != "log1p":
        return values
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))
