"""Every hash, range, choice and namespace case of the GrowthBook specification; many units hash as one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from experiment.hashing import (
    bucket_ranges,
    choose,
    equal_weights,
    in_namespace,
    keys64,
    place_numbers,
    places,
    seed_states,
    unit_hash,
)


@pytest.fixture
def cases(golden: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((golden / "growthbook_cases.json").read_text())
    return value


def test_golden_hash(cases: dict[str, Any]) -> None:
    assert len(cases["hash"]) == 15
    for seed, value, version, expected in cases["hash"]:
        assert unit_hash(seed, value, version) == expected


def test_golden_bucket_ranges(cases: dict[str, Any]) -> None:
    assert len(cases["getBucketRange"]) == 13
    for name, (n, coverage, weights), expected in cases["getBucketRange"]:
        np.testing.assert_allclose(bucket_ranges(n, coverage, weights), expected, atol=1e-12, err_msg=name)


def test_golden_choose_variation(cases: dict[str, Any]) -> None:
    for name, place, ranges, expected in cases["chooseVariation"]:
        assert choose(place, ranges) == expected, name


def test_golden_namespaces(cases: dict[str, Any]) -> None:
    for name, unit, (namespace, low, high), expected in cases["inNamespace"]:
        assert in_namespace(unit, namespace, low, high) == expected, name


def test_golden_equal_weights(cases: dict[str, Any]) -> None:
    for n, expected in cases["getEqualWeights"]:
        np.testing.assert_allclose(equal_weights(n), expected, atol=1e-8)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5), st.lists(st.text(max_size=20), min_size=1, max_size=30))
def test_many_units_hash_as_one(seeds: list[str], units: list[str]) -> None:
    many = places(seed_states(seeds), units)
    for i, seed in enumerate(seeds):
        assert many[i].tolist() == [unit_hash(seed, unit) for unit in units]
    for j, unit in enumerate(units):
        numbers = place_numbers(seed_states(seeds), unit.encode())
        assert (numbers / 10_000).tolist() == many[:, j].tolist()


def test_integers_hash_as_their_text_whatever_holds_them() -> None:
    expected = places(seed_states(["s"]), ["7", "-12", "900"])
    for same in (np.array([7, -12, 900]), pa.array([7, -12, 900]), pa.chunked_array([["7"], ["-12", "900"]])):
        assert places(seed_states(["s"]), same).tolist() == expected.tolist()
    sliced = pa.array(["x", "7", "-12", "900"])[1:]
    assert keys64(sliced).tolist() == keys64(["7", "-12", "900"]).tolist()


def test_two_seeds_are_independent_in_version_2_and_not_in_version_1() -> None:
    units = [str(i) for i in range(4000)]

    def correlation(version: int) -> float:
        halves = [np.array([unit_hash(seed, unit, version) for unit in units], float) < 0.5 for seed in ("layer-1", "layer-2")]
        return abs(float(np.mean((halves[0] - halves[0].mean()) * (halves[1] - halves[1].mean())) * 4))

    assert correlation(2) < 4 / np.sqrt(len(units))
    assert correlation(1) > 4 / np.sqrt(len(units))


def test_places_are_uniform() -> None:
    drawn = places(seed_states(["uniform"]), np.arange(100_000))[0]
    counts = np.bincount((drawn * 20).astype(int), minlength=20)
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi-squared with 19 degrees of freedom, p = .001


def test_a_missing_unit_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="1 of 2 unit ids are missing"):
        keys64(pa.array(["a", None]))
    with pytest.raises(DataError, match="give texts or integers"):
        keys64(np.array([0.5]))
