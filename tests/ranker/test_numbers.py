"""Numbers are scaled by training statistics, opened into steps, and refused when a hole is an error."""

import numpy as np
import pytest

from core.errors import DataError
from ranker.features import Feature
from ranker.numbers import Numbers


def test_standard_has_mean_zero_and_deviation_one() -> None:
    feature, values = Feature("x", "dense"), np.array([1.0, 3.0])
    assert Numbers.fit(feature, values).encode(feature, values).ravel().tolist() == [-1.0, 1.0]


def test_log1p_keeps_the_sign() -> None:
    feature, values = Feature("x", "dense", transform="log1p"), np.array([-(np.e - 1), 0.0, np.e - 1])
    scaled = Numbers.fit(feature, values).encode(feature, values).ravel()
    assert np.allclose(scaled, np.array([-1, 0, 1]) * np.sqrt(1.5))


def test_piecewise_steps_by_hand() -> None:
    feature = Feature("x", "dense", transform="piecewise", steps=2)
    numbers = Numbers.fit(feature, np.array([0.0, 1.0, 3.0]))  # quantile edges 0, 1, 3
    assert numbers.encode(feature, np.array([-5.0, 0.5, 2.0, 9.0])).tolist() == [[0, 0], [0.5, 0], [1, 0.5], [1, 1]]


def test_a_dominant_value_does_not_eat_the_edges() -> None:
    values = np.concatenate([np.zeros(9_600), np.arange(1, 401)])
    feature = Feature("gains", "dense", transform="piecewise", steps=8)
    assert len(Numbers.fit(feature, values).edges) >= 8
    binned = Feature("gains_bin", bins=8)
    assert len(np.unique(Numbers.fit(binned, values).bin(binned, values))) >= 7


def test_holes_are_refused_or_marked() -> None:
    feature = Feature("x", "dense")
    numbers = Numbers.fit(feature, np.array([1.0, 2.0]))
    with pytest.raises(DataError, match="'x' is NaN in row 1"):
        numbers.encode(feature, np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="infinite in row 0"):
        numbers.encode(feature, np.array([np.inf, 1.0]))
    filled = Feature("x", "dense", missing="fill")
    assert Numbers.fit(filled, np.array([1.0, 3.0, np.nan])).encode(filled, np.array([np.nan, 3.0])).tolist() == [[0, 1], [1, 0]]


def test_a_constant_column_is_zero_not_nan() -> None:
    feature = Feature("x", "dense")
    assert Numbers.fit(feature, np.full(4, 7.0)).encode(feature, np.full(2, 7.0)).tolist() == [[0], [0]]


def test_text_is_refused() -> None:
    with pytest.raises(DataError, match="declare it sparse"):
        Numbers.fit(Feature("x", "dense"), np.array(["a", "b"]))
