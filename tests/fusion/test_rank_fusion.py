"""Rank fusion by hand, and its agreement with the formula of the same meaning."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.formula import Formula
from fusion.rank_fusion import RankFusion, borda, comb_max, comb_min, comb_sum, rrf

TABLE = np.array([[0.9, 1.0], [0.5, 3.0], [0.5, 2.0]])
ONES = np.ones(2)


def test_by_hand() -> None:
    np.testing.assert_allclose(rrf(TABLE, ONES, c=1.0), [1 / 2 + 1 / 4, 1 / 3.5 + 1 / 2, 1 / 3.5 + 1 / 3])
    np.testing.assert_allclose(borda(TABLE, ONES), [2.0, 2.5, 1.5])
    np.testing.assert_allclose(comb_sum(TABLE, np.array([1.0, 2.0])), [1.0, 2.0, 1.0])
    np.testing.assert_allclose(comb_max(TABLE, ONES), [1.0, 1.0, 0.5])
    np.testing.assert_allclose(comb_min(TABLE, ONES), [0.0, 0.0, 0.0])


def test_rrf_is_the_rank_sum_formula() -> None:
    scores = ScoreTable(("click", "like"), np.random.default_rng(0).random((20, 2)).round(1))
    formula = Formula.parse("2 / (60 + rank(click)) + 3 / (60 + rank(like))", tasks=["click", "like"])
    np.testing.assert_allclose(RankFusion("rrf", {"click": 2.0, "like": 3.0}).fuse(scores).final, formula.final(scores).values)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"method": "mean", "weights": {"click": 1.0}}, "is not one of"),
        ({"method": "rrf", "weights": {}}, "must name tasks"),
        ({"method": "rrf", "weights": {"click": -1.0}}, "at least 0"),
        ({"method": "rrf", "weights": {"click": 1.0}, "c": 0.0}, "above 0"),
        ({"method": "rrf", "weights": {"click": 1.0}, "down": ["hate"]}, "has no weight"),
    ],
)
def test_misuse(kwargs: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RankFusion(**kwargs)  # type: ignore[arg-type]
