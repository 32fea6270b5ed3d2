"""Labels that need care: watch time freed of the video's length, and conversions that come late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.arrays import AnyArray, Floats, Ints
from core.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class DurationQuantiles:
    """D2Q (Zhan et al., KDD 2022): watch time as its quantile among training rows of videos about as long, 0..1.

    A long video is watched longer whatever the user thinks of it; the quantile compares like with like, and `invert` leads
    back to seconds for a video of a given length.

    Args:
        edges: Ascending limits between the duration groups, `[g - 1]`.
        watch: Quantiles of watch time in each group, `[g, q]`.
    """

    edges: Floats
    watch: Floats

    @classmethod
    def fit(cls, watch: Floats, duration: Floats, *, n_groups: int = 30, n_quantiles: int = 100) -> DurationQuantiles:
        """Groups of equal counts by duration, and the quantiles of watch time within each."""
        if n_groups < 1 or n_quantiles < 2:
            raise ConfigError(f"n_groups {n_groups} and n_quantiles {n_quantiles} must be at least 1 and 2")
        if not len(watch) or len(watch) != len(duration) or np.isnan(watch).any() or np.isnan(duration).any():
            raise DataError("watch time and duration must be equally long, without holes, and not empty")
        edges = np.unique(np.quantile(duration, np.linspace(0, 1, n_groups + 1)[1:-1]))
        group = np.searchsorted(edges, duration, side="right")
        grid = np.linspace(0, 1, n_quantiles)
        everyone = np.quantile(watch, grid)
        rows = [np.quantile(watch[group == g], grid) if np.any(group == g) else everyone for g in range(len(edges) + 1)]
        return cls(edges, np.array(rows))

    def apply(self, watch: Floats, duration: Floats) -> Floats:
        """Quantile of each watch time within its duration group, `[n]`; ties get the middle of their range.

        >>> debiased = DurationQuantiles.fit(np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), np.repeat([5.0, 60.0], 3), n_groups=2)
        >>> debiased.apply(np.array([2.0, 20.0]), np.array([5.0, 60.0])).round(2).tolist()
        [0.5, 0.5]
        """
        group = np.searchsorted(self.edges, duration, side="right")
        found = np.empty(len(watch))
        top = self.watch.shape[1] - 1
        for g in np.unique(group):
            rows, marks = group == g, self.watch[g]
            between = np.interp(watch[rows], marks, np.arange(top + 1))
            low, high = np.searchsorted(marks, watch[rows], "left"), np.searchsorted(marks, watch[rows], "right") - 1
            found[rows] = np.where(high > low, (low + high) / 2, between) / top
        return found

    def invert(self, quantile: Floats, duration: Floats) -> Floats:
        """Seconds that a quantile means for a video of this length, `[n]`."""
        group: Ints = np.searchsorted(self.edges, duration, side="right")
        place = np.clip(quantile, 0, 1) * (self.watch.shape[1] - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, self.watch.shape[1] - 1)
        share = place - low
        return np.asarray(self.watch[group, low] * (1 - share) + self.watch[group, high] * share)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"edges": self.edges.tolist(), "watch": self.watch.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DurationQuantiles:
        """The inverse of `to_json`."""
        return cls(np.array(value["edges"], float), np.array(value["watch"], float))


def attributed(shown_ms: AnyArray, converted_ms: AnyArray, *, window_ms: int, now_ms: int) -> Floats:
    """A conversion label with its attribution window, `[n]`: 1, 0, or NaN while the window is still open.

    Args:
        shown_ms: When each impression was.
        converted_ms: When it converted; NaN where it did not, as far as is known at `now_ms`.
        window_ms: A conversion counts when it comes at most so long after the impression.
        now_ms: The moment of training: later conversions are not known, and a row younger than the window has no label yet.

    >>> attributed(np.array([0, 0, 0, 90]), np.array([5.0, 50.0, np.nan, np.nan]), window_ms=20, now_ms=100).tolist()
    [1.0, 0.0, 0.0, nan]
    """
    if window_ms <= 0:
        raise ConfigError(f"attribution window {window_ms} ms must be above 0")
    shown, converted = np.asarray(shown_ms, float), np.asarray(converted_ms, float)
    if np.any(converted < shown):
        raise DataError(
            f"row {int(np.argmax(converted < shown))} converts before it was shown; times are milliseconds since 1970"
        )
    with np.errstate(invalid="ignore"):
        known = converted <= now_ms
        positive = known & (converted - shown <= window_ms)
    return np.where(positive, 1.0, np.where(now_ms - shown < window_ms, np.nan, 0.0))
