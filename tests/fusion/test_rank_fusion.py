"""Rank fusion by hand, its agreement with ranx to 1e-9, and with the formula of the same meaning."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.formula import Formula
from fusion.rank_fusion import METHODS, RankFusion, borda, comb_max, comb_min, comb_mnz, comb_sum, rrf

TABLE = np.array([[0.9, 1.0], [0.5, 3.0], [0.5, 2.0]])
ONES = np.ones(2)


def test_by_hand() -> None:
    np.testing.assert_allclose(rrf(TABLE, ONES, c=1.0), [1 / 2 + 1 / 4, 1 / 3.5 + 1 / 2, 1 / 3.5 + 1 / 3])
    np.testing.assert_allclose(borda(TABLE, ONES), [2.0, 2.5, 1.5])
    np.testing.assert_allclose(comb_sum(TABLE, np.array([1.0, 2.0])), [1.0, 2.0, 1.0])
    np.testing.assert_allclose(comb_mnz(TABLE, np.array([1.0, 2.0])), [1.0, 2.0, 1.0])
    np.testing.assert_allclose(comb_max(TABLE, ONES), [1.0, 1.0, 0.5])
    np.testing.assert_allclose(comb_min(TABLE, ONES), [0.0, 0.0, 0.0])


def test_agrees_with_ranx() -> None:
    """All six on 40 items and 3 tasks, without ties: ranx breaks them by place, we share the mean of their ranks.

    Borda there is n - rank + 1 a task, here the number of items below, n - rank. CombMNZ there counts the runs that hold a
    document, here the tasks that give it more than their lowest score: ranx is given runs without those zeros.
    """
    table = np.random.default_rng(4).random((40, 3))
    command = [sys.executable, "-m", "tests.fusion.ranx_answers"]
    uncompiled = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        command, input=json.dumps(table.T.tolist()), env=uncompiled, capture_output=True, text=True, timeout=300, check=True
    )
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert set(theirs) == set(METHODS)
    names = ("click", "like", "follow")
    for method, values in theirs.items():
        ours = RankFusion(method, dict.fromkeys(names, 1.0), c=60.0).fuse(ScoreTable(names, table)).final
        np.testing.assert_allclose(ours + (3.0 if method == "borda" else 0.0), values, rtol=0, atol=1e-9, err_msg=method)


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
        RankFusion(**kwargs)  # type: ignore[arg-type]  # wrong on purpose
