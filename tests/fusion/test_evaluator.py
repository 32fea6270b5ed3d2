"""The kernel against plain numpy, scikit-learn and hand-worked numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from core.arrays import gauc as plain_gauc
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.search import Evaluator, Objective, Panel, function, gauc, mtf_gauc, ndcg
from tests.fusion.conftest import TASKS, make_log

FORMULA = Formula.parse("a * log(click + b) + c * like - hate", tasks=TASKS, params=["a", "b", "c"])
VECTORS = np.random.default_rng(3).uniform(0.01, 2.0, (11, 3))
EVERYTHING = [  # every operation of the language, with and without parameters
    "a * click + like",
    "a - click / (b + like) - (-a) * hate",
    "(click + a) ** b * (like + .1) ** 2 + 2 ** (a * click)",
    "a * log1p(click) + exp(b * like) + sqrt(a + hate) + abs(click - a) + sigmoid(b * (click - like))",
    "min(a * click, like, b) + max(click, a * like) + clip(a * click, .1, .2 * b)",
    "where(click > a * like, click, b * like) + (a * click >= like) + (a * click == click) + (b * like != hate)",
    "where(a > .5, click, like) + (a * click < b) + (a * click <= like)",
    "rank(a * click + b * like) + a / (rank(click) + 60)",
    "zscore(a * click - like) + b * minmax(a * click + like) + minmax(like) * zscore(click) + .1 * click",
    "a * (b * (a * (b * (a + click) + like) + hate) + log(a + b * click)) + rank(a * 0)",
    "log(a * click ** 9 * 1e-300 + 1e-310) + a * hour",
]


@pytest.mark.parametrize("text", EVERYTHING)
def test_kernel_equals_numpy(text: str, log: LoggedDataset) -> None:
    params = [p for p in ("a", "b") if re.search(rf"\b{p}\b", text)]
    formula = Formula.parse(text, tasks=TASKS, params=params, context=["hour"])
    panel = Panel(log, Objective([gauc("click"), gauc("like")]))
    judge = Evaluator(formula, panel)
    vectors = VECTORS[:, : len(params)]
    found = judge(vectors).terms
    for vector, terms in zip(vectors, found, strict=True):
        final = judge.finals(dict(zip(params, vector.tolist(), strict=True))).round(9)  # ties up to the last bits stay ties
        for label, term in zip(("click", "like"), terms, strict=True):
            assert term == pytest.approx(plain_gauc(panel.log["user_id"], panel.log[label] > 0, final)[0], abs=1e-9)


def test_one_by_one_is_batched(log: LoggedDataset) -> None:
    judge = Evaluator(FORMULA, Panel(log, Objective([gauc("click"), gauc("like"), gauc("hate", -1.0)])))
    together = judge(VECTORS).terms
    np.testing.assert_array_equal(together, np.concatenate([judge(v[None]).terms for v in VECTORS]))


def test_gauc_is_the_weighted_mean_of_sklearn_aucs(log: LoggedDataset) -> None:
    panel = Panel(log, Objective([gauc("like")]))
    final = Evaluator(FORMULA, panel).finals({"a": 1.0, "b": 0.1, "c": 2.0})
    values, weights = [], []
    for user in np.unique(panel.log["user_id"].astype(str)):
        rows = panel.log["user_id"] == user
        if 0 < panel.log["like"][rows].sum() < rows.sum():
            values.append(roc_auc_score(panel.log["like"][rows], final[rows]))
            weights.append(rows.sum())
    assert Evaluator(FORMULA, panel)(np.array([[1.0, 0.1, 2.0]])).terms[0, 0] == pytest.approx(
        np.average(values, weights=weights), abs=1e-12
    )


@pytest.mark.parametrize("by", ["request_id", "user_id"])
def test_ndcg_is_sklearns(by: str, log: LoggedDataset) -> None:
    coarse = Formula.parse("clip(click, .3, .7) * a", tasks=TASKS, params=["a"])  # many ties
    panel = Panel(log, Objective([ndcg({"click": 1.0, "like": 3.0}, k=4, by=by), gauc("click")]))
    final = Evaluator(coarse, panel).finals({"a": 1.0})
    gains = panel.log["click"] + 3 * panel.log["like"]
    expected = []
    for group in np.unique(panel.log[by].astype(str)):
        rows = np.flatnonzero(panel.log[by] == group)
        if gains[rows].sum() > 0:
            expected.append(1.0 if len(rows) == 1 else ndcg_score(gains[None, rows], final[None, rows], k=4))
    found = Evaluator(coarse, panel)(np.array([[1.0], [2.0]])).terms
    np.testing.assert_allclose(found[:, 0], np.mean(expected), atol=1e-9)


def test_mtf_gauc_by_hand() -> None:
    # positives: row 0 (click, weight 1), row 1 (click and like, weight 3); negatives: rows 2, 3
    log = LoggedDataset(
        {
            "user_id": np.array([7, 7, 7, 7, 8]),
            "click": np.array([1, 1, 0, 0, 1.0]),
            "like": np.array([0, 1, 0, 0, 1.0]),
            "score_click": np.array([0.2, 0.9, 0.5, 0.2, 0.5]),
        }
    )
    formula = Formula.parse("a * click", tasks=["click"], params=["a"])
    for weight in ("impressions", "positives", "reward", "one"):
        panel = Panel(log, Objective([mtf_gauc({"click": 1.0, "like": 2.0}, user_weight=weight)]))
        # row 0 beats neither but ties with row 3: 1 * .5; row 1 beats both: 3 * 2; over (1 + 3) * 2
        assert Evaluator(formula, panel)(np.array([[1.0]])).values[0] == pytest.approx(6.5 / 8)
    strict = Panel(log, Objective([mtf_gauc({"click": 1.0, "like": 2.0}, valid=["like"])]))
    assert Evaluator(formula, strict)(np.array([[1.0]])).values[0] == 1.0


def test_unobserved_labels_are_left_out(log: LoggedDataset) -> None:
    hidden = np.random.default_rng(0).random(len(log)) < 0.4
    partial = log.with_columns({"like": np.where(hidden, np.nan, log["like"])})
    panel = Panel(partial, Objective([gauc("click"), gauc("like")]))
    vectors = VECTORS[:2]
    seen_only = Panel(log.take(~hidden), Objective([gauc("like")]))
    np.testing.assert_allclose(Evaluator(FORMULA, panel)(vectors).terms[:, 1], Evaluator(FORMULA, seen_only)(vectors).terms[:, 0])


def test_users_of_any_size() -> None:
    """One user beyond the 4,096 rows whose index fits the key, beside singletons."""
    rng = np.random.default_rng(0)
    n = 6000
    user = np.where(np.arange(n) < 5000, 0, np.arange(n))
    log = LoggedDataset({"user_id": user, "click": (rng.random(n) < 0.3) * 1.0, "score_click": rng.random(n).round(3)})
    formula = Formula.parse("a * click", tasks=["click"], params=["a"])
    expected = roc_auc_score(log["click"][:5000], log["score_click"][:5000])
    for objective in (Objective([gauc("click")]), Objective([mtf_gauc({"click": 1.0})])):
        values = Evaluator(formula, Panel(log, objective))(np.array([[1.0], [2.0]])).values
        np.testing.assert_allclose(values, expected, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 2]))
def test_any_small_log_agrees(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    log = LoggedDataset(
        {
            "user_id": rng.integers(0, 4, n),
            "click": rng.integers(0, 2, n) * 1.0,
            "score_click": (rng.random(n) - 0.5).round(decimals),
        }
    )
    expected, n_eligible = plain_gauc(log["user_id"], log["click"] > 0, log["score_click"])
    if n_eligible == 0:
        with pytest.raises(DataError, match="no user has both"):
            Panel(log, Objective([gauc("click")]))
        return
    formula = Formula.parse("a * click", tasks=["click"], params=["a"])
    values = Evaluator(formula, Panel(log, Objective([gauc("click")])))(np.array([[1.0], [3.0]])).values
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_nonfinite_is_counted_and_follows_the_policy(log: LoggedDataset) -> None:
    panel = Panel(log, Objective([gauc("click")]))
    text = "log(click - a)"
    n_bad = [int((log["score_click"] <= a).sum()) for a in (0.0, 0.5)]
    strict = Evaluator(Formula.parse(text, tasks=TASKS, params=["a"]), panel)(np.array([[0.0], [0.5]]))
    floored = Evaluator(Formula.parse(text, tasks=TASKS, params=["a"], nonfinite=-99.0), panel)(np.array([[0.0], [0.5]]))
    assert strict.n_nonfinite.tolist() == floored.n_nonfinite.tolist() == n_bad
    assert np.isnan(strict.values).tolist() == [False, True]
    assert np.isfinite(floored.values).all()


def test_a_users_function(log: LoggedDataset) -> None:
    mean_of_top = function("top", lambda final, of: float(of["like"][np.argsort(-final)[:100]].mean()), weight=2.0)
    judge = Evaluator(FORMULA, Panel(log, Objective([gauc("click"), mean_of_top])))
    found = judge(VECTORS[:2])
    final = judge.finals(dict(zip(FORMULA.params, VECTORS[1], strict=True)))
    assert found.terms[1, 1] == judge.panel.log["like"][np.argsort(-final)[:100]].mean()
    np.testing.assert_allclose(found.values, found.terms[:, 0] + 2 * found.terms[:, 1])


def test_bad_input_is_one_clear_error(log: LoggedDataset) -> None:
    with pytest.raises(DataError, match="empty"):
        Panel(log.take(np.zeros(len(log), bool)), Objective([gauc("click")]))
    with pytest.raises(DataError, match="no user has both a positive and a negative"):
        Panel(log.with_columns({"click": np.ones(len(log))}), Objective([gauc("click")]))
    with pytest.raises(DataError, match="not 0 or 1"):
        Panel(log.with_columns({"click": np.full(len(log), 0.5)}), Objective([gauc("click")]))
    with pytest.raises(DataError, match="no column 'nope'"):
        Panel(log, Objective([gauc("nope")]))
    with pytest.raises(DataError, match="not finite in 3000 of 3000"):
        Evaluator(FORMULA, Panel(log.with_columns({"score_like": np.full(len(log), np.nan)}), Objective([gauc("click")])))
    with pytest.raises(ConfigError, match="must differ"):
        Objective([gauc("click"), gauc("click")])
    judge = Evaluator(FORMULA, Panel(log, Objective([gauc("click")])))
    with pytest.raises(ConfigError, match="shape"):
        judge(np.ones((2, 2)))
    with pytest.raises(ConfigError, match="finite"):
        judge(np.full((1, 3), np.nan))


def test_row_order_does_not_matter(log: LoggedDataset) -> None:
    shuffled = log.take(np.random.default_rng(0).permutation(len(log)))
    objective = Objective([gauc("click"), ndcg("click", k=3)])
    a, b = (Evaluator(FORMULA, Panel(part, objective))(VECTORS).terms for part in (log, shuffled))
    np.testing.assert_allclose(a, b, atol=1e-12)
    assert len(make_log(10)) == 10
