"""Streams: uniform, normal, unrelated to each other, and the same in any batch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from simulator.streams import key, normals, uniforms, words


def test_numbers_have_their_distribution() -> None:
    block = words(key(1, np.arange(5000)), 8)
    assert kstest(uniforms(block).ravel(), "uniform").pvalue > 0.001
    assert kstest(normals(block).ravel(), "norm").pvalue > 0.001


def test_neighbouring_streams_and_counters_are_unrelated() -> None:
    u = uniforms(words(key(1, np.arange(20_000)), 3))
    correlation = np.array(np.corrcoef(np.column_stack([u[:-1], u[1:]]).T)) - np.eye(12)
    assert np.abs(correlation).max() < 0.03


@given(st.integers(-(2**62), 2**62), st.integers(0, 50), st.integers(1, 9))
def test_a_stream_does_not_depend_on_its_company(seed: int, user: int, n: int) -> None:
    together = words(key(seed, np.arange(60)), n)
    assert np.array_equal(together[user], words(key(seed, np.array([user])), n)[0])


def test_order_and_number_of_parts_matter() -> None:
    keys = {int(key(*parts)) for parts in [(1,), (1, 0), (0, 1), (1, 2), (2, 1), (0,), (0, 0)]}
    assert len(keys) == 7
