"""Truth recovery: labels drawn from a known formula; every searcher finds its ranking, and the Pareto front holds the optimum."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import kendalltau

from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.search import SEARCHERS, Evaluator, Objective, Panel, Param, SearchResult, Space, gauc, search

TASKS = ("click", "like", "follow")
FORMULA = Formula.parse("a * click + b * like + c * follow", tasks=TASKS, params=["a", "b", "c"])
SPACE = Space([Param("a"), Param("b"), Param("c")], scale_free=[["a", "b", "c"]])
TRUTH = np.array([0.55, 0.30, 0.15])
# model-free searchers need points; the Gaussian process finds it with 60, and its every further point costs more
N_TRIALS = {"random": 4096, "sobol": 4096, "grid": 4096, "gp": 60, "tpe": 256}


@cache
def logs() -> tuple[LoggedDataset, LoggedDataset]:
    """20,000 impressions a part; `worth` is 1 for the half of a user's items that the true formula ranks first."""
    return part(0), part(1)


def part(seed: int) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    n_users, n = 400, 20_000
    scores = rng.random((n, 3))
    user = np.repeat(np.arange(n_users), n // n_users)
    final = scores @ TRUTH
    median = np.repeat(np.median(final.reshape(n_users, -1), axis=1), n // n_users)
    columns = {f"score_{task}": scores[:, i] for i, task in enumerate(TASKS)}
    return LoggedDataset({"user_id": user, "worth": (final > median) * 1.0, **columns})


def found_by(searcher: str, objective: Objective) -> SearchResult:
    before, after = logs()
    return search(
        FORMULA, before, after, space=SPACE, objective=objective, hand_set=dict.fromkeys(TASKS, 1.0), searcher=searcher,
        n_trials=N_TRIALS.get(searcher, 600), n_draws=20, seed=5, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("searcher", sorted(SEARCHERS))
def test_every_searcher_recovers_the_ranking(searcher: str) -> None:
    result = found_by(searcher, Objective([gauc("worth")]))
    assert len(result.values) >= (60 if searcher == "gp" else 200)
    fresh = np.random.default_rng(9).random((1_500, 3))
    tau = kendalltau(fresh @ TRUTH, fresh @ np.array([result.weights[name] for name in "abc"])).statistic
    assert tau >= 0.98, (searcher, tau, result.weights)


def test_the_front_holds_the_known_optimum() -> None:
    """Two labels, one a click score above its user's median, the other a like score: the best for both is known for every mix.

    With these labels a / (a + b) = 1 is best for the first and 0 for the second, and every mix between is on the true front."""
    rng = np.random.default_rng(3)
    n_users, size = 200, 50
    scores = rng.random((n_users, size, 2))
    above = scores > np.median(scores, axis=1, keepdims=True)
    log = LoggedDataset(
        {
            "user_id": np.repeat(np.arange(n_users), size),
            "score_click": scores[..., 0].ravel(),
            "score_like": scores[..., 1].ravel(),
            "first": above[..., 0].ravel() * 1.0,
            "second": above[..., 1].ravel() * 1.0,
        }
    )
    formula = Formula.parse("a * click + b * like", tasks=["click", "like"], params=["a", "b"])
    objective = Objective([gauc("first", 0.5), gauc("second", 0.5)])
    result = search(
        formula, log, log, space=Space([Param("a"), Param("b")], scale_free=[["a", "b"]]), objective=objective,
        hand_set={"click": 1.0, "like": 1.0}, searcher="nsga2", n_trials=600, n_draws=20, seed=1, progress=False,
    )  # fmt: skip
    front = result.terms[result.front]
    known = Evaluator(formula, Panel(log, objective))(np.array([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]))
    assert known.terms[0, 0] == 1.0
    assert known.terms[-1, 1] == 1.0
    for optimum in known.terms:
        assert (front >= optimum - 0.005).all(axis=1).any(), (optimum, front)
    assert np.abs(front.sum(axis=1).max() - known.terms[2].sum()) < 0.005
