"""Drift: the index by hand, near zero for the same scores, merged counts, damaged references refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from core.drift import ACT, LOOK, N_BINS, Reference
from core.errors import ConfigError, DataError


def test_the_index_by_hand() -> None:
    """Two bins at .5 each against .8 and .2: .3 log 1.6 + .3 log 2.5."""
    reference = Reference({"click": np.array([0.5])}, {"click": np.array([0.5, 0.5])}, 100)
    found = reference.psi({"click": np.array([0.4] * 8 + [0.6] * 2)})
    assert found["click"] == pytest.approx(0.3 * np.log(1.6) + 0.3 * np.log(2.5), abs=1e-12)


def test_the_same_distribution_has_none_and_a_shifted_one_has() -> None:
    rng = np.random.default_rng(0)
    reference = Reference.of({"click": rng.beta(2, 5, 20_000)})
    assert reference.psi({"click": rng.beta(2, 5, 5_000)})["click"] < (N_BINS - 1) * (1 / 5_000 + 1 / 20_000) * 4
    assert LOOK < reference.psi({"click": rng.beta(2.6, 5, 5_000)})["click"] < ACT
    assert reference.psi({"click": rng.beta(4, 5, 5_000)})["click"] > ACT


def test_counts_of_parts_add_up() -> None:
    rng = np.random.default_rng(1)
    reference, values = Reference.of({"a": rng.normal(size=999)}), rng.normal(0.3, 1, 400)
    parts = reference.counts("a", values[:150]) + reference.counts("a", values[150:])
    assert reference.psi_of_counts("a", parts) == reference.psi({"a": values})["a"]


def test_tied_scores_make_fewer_bins() -> None:
    reference = Reference.of({"a": np.array([0.0] * 90 + [1.0] * 10)})
    assert len(reference.shares["a"]) < N_BINS
    assert reference.shares["a"].sum() == pytest.approx(1)
    assert reference.psi({"a": np.array([0.0] * 9 + [1.0])})["a"] == pytest.approx(0)


def test_what_cannot_be_computed() -> None:
    reference = Reference.of({"a": np.arange(10.0)})
    assert np.isnan(reference.psi({"a": np.zeros(0)})["a"])
    assert reference.psi({"b": np.zeros(3)}) == {}
    assert np.isfinite(reference.psi({"a": np.full(3, 1e9)})["a"])
    with pytest.raises(DataError, match="'a'"):
        Reference.of({"a": np.array([np.nan])})


def test_json_and_back() -> None:
    reference = Reference.of({"a": np.random.default_rng(2).normal(size=500), "b": np.zeros(3)})
    again = Reference.from_json(json.loads(json.dumps(reference.to_json())))
    values = {"a": np.linspace(-1, 3, 50), "b": np.ones(4)}
    assert again.psi(values) == reference.psi(values)
    for wrong in ({}, {"n": 1, "tasks": {"a": {"edges": [1, 1], "shares": [0, 0, 1]}}}, {"n": 1, "tasks": {"a": [1]}}):
        with pytest.raises(ConfigError):
            Reference.from_json(wrong)
