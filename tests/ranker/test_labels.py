"""Debiased watch time forgets the length and finds its way back; a late conversion has no label before its window ends."""

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from ranker.labels import DurationQuantiles, attributed


def test_length_says_nothing_after_and_seconds_come_back() -> None:
    rng = np.random.default_rng(0)
    duration = rng.uniform(5, 200, 40_000)
    taste = rng.random(40_000)
    watch = duration * taste**2
    debiased = DurationQuantiles.fit(watch, duration)
    label = debiased.apply(watch, duration)
    assert abs(np.corrcoef(watch, duration)[0, 1]) > 0.4
    assert abs(np.corrcoef(label, duration)[0, 1]) < 0.02
    assert np.corrcoef(label, taste)[0, 1] > 0.99
    assert np.allclose(debiased.invert(label, duration), watch, atol=0.05 * duration.max() / 10)
    again = DurationQuantiles.from_json(debiased.to_json())
    assert np.array_equal(again.apply(watch, duration), label)


def test_ties_share_their_middle() -> None:
    debiased = DurationQuantiles.fit(np.array([0.0] * 50 + [1.0] * 50), np.ones(100), n_quantiles=101)
    low, high = debiased.apply(np.array([0.0, 1.0]), np.ones(2))
    assert low == pytest.approx(0.25, abs=0.01)
    assert high == pytest.approx(0.75, abs=0.01)


def test_windows() -> None:
    label = attributed(np.array([0, 0, 50]), np.array([10.0, 99.0, 101.0]), window_ms=40, now_ms=100)
    assert label.tolist()[:2] == [1, 0]
    assert label[2] == 0  # its window ended at 90, and the conversion at 101 is not known yet
    assert np.isnan(attributed(np.array([70]), np.array([np.nan]), window_ms=40, now_ms=100))[0]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        attributed(np.zeros(1), np.zeros(1), window_ms=0, now_ms=1)
    with pytest.raises(DataError, match="row 0 converts before it was shown"):
        attributed(np.array([5]), np.array([1.0]), window_ms=1, now_ms=9)
    with pytest.raises(DataError, match="without holes"):
        DurationQuantiles.fit(np.array([np.nan]), np.ones(1))
