"""Ranges, normalisation, and ranges that make no sense."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError
from fusion.search import Param, Space


def test_ends_of_the_cube_are_ends_of_the_ranges() -> None:
    space = Space([Param("a", -2, 6), Param("b", 0.01, 100, log=True)])
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [-1.0, 2.0]])
    np.testing.assert_allclose(space.decode(points), np.array([[-2, 0.01], [6.0, 100], [2, 1], [-2, 100]]))


def test_scaled_vectors_normalise_to_one() -> None:
    space = Space([Param("a"), Param("b"), Param("c", -1, 0)], scale_free=[["a", "c"]])
    vectors = np.array([[0.2, 0.7, -0.6], [0.1, 0.7, -0.3], [0.0, 0.5, 0.0]])
    normal = space.normalise(vectors)
    np.testing.assert_allclose(normal[:2], [[0.25, 0.7, -0.75], [0.25, 0.7, -0.75]])
    np.testing.assert_array_equal(normal[2], vectors[2])


def test_json_and_back() -> None:
    space = Space([Param("a"), Param("b", 0.01, 1, log=True)], scale_free=[["a"]])
    assert Space.from_json(space.to_json()).to_json() == space.to_json()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Param("a", 1, 1), "ascending"),
        (lambda: Param("a", 0, float("inf")), "finite"),
        (lambda: Param("a", 0, 1, log=True), "low above 0"),
        (lambda: Space([Param("a"), Param("a")]), "distinct"),
        (lambda: Space([]), "distinct"),
        (lambda: Space([Param("a")], [["b"]]), "scale_free names 'b'"),
        (lambda: Space.from_json({"params": [{"nam": "a"}]}), "needs params"),
    ],
)
def test_nonsense_is_refused(make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=says):
        make()
