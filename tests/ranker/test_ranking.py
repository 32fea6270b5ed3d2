"""Pairwise and listwise terms against double loops, and that they train the order within groups."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.ranking import RankingLoss, listwise, pairwise
from ranker.train import TrainConfig, train


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_terms_are_those_of_a_double_loop(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    n = 12
    s = torch.randn(n, 2, generator=g, dtype=torch.float64)
    y = torch.randint(0, 2, (n, 2), generator=g).double()
    w = torch.randint(0, 2, (n, 2), generator=g).double()
    group = torch.randint(0, 4, (n,), generator=g)
    for task in range(2):
        pairs = [
            np.log1p(np.exp(float(s[j, task] - s[i, task])))
            for i in range(n)
            for j in range(n)
            if group[i] == group[j] and w[i, task] * w[j, task] > 0 and y[i, task] > y[j, task]
        ]
        lists = []
        for value in range(4):
            rows = (group == value) & (w[:, task] > 0)
            if y[rows, task].sum() > 0:
                lists.append(-float((y[rows, task] / y[rows, task].sum() * torch.log_softmax(s[rows, task], 0)).sum()))
        for term, wanted in ((pairwise, pairs), (listwise, lists)):
            total, count = term(s, y, w, group)
            assert total[task].item() == pytest.approx(sum(wanted))
            assert count[task].item() == len(wanted)


@pytest.mark.parametrize("kind", ["pairwise", "listwise"])
def test_only_order_within_groups_is_learned(kind: str) -> None:
    """A clicked item beats the others of its user; with no other loss, what lifts all rows of a user alike stays unlearned."""
    rng = np.random.default_rng(0)
    n = 3000
    user, price = np.repeat(np.arange(n // 10), 10), rng.normal(size=n)
    log = LoggedDataset({"user_id": user, "price": price, "click": (rng.random(n) < 1 / (1 + np.exp(-2 * price))).astype(float)})
    spec = FeatureSpec([Feature("price", kind="dense")], TaskSet([TaskSpec("click")]))
    config = TrainConfig(
        epochs=3,
        batch_size=200,
        learning_rate=0.01,
        balance_options={"weights": {"click": 0.0}},
        ranking={"kind": kind, "group": "user_id", "strength": 1.0},
    )
    made = train(
        spec, "shared_bottom", train=log.take(np.arange(2000)), valid=log.take(np.arange(2000, n)), config=config, progress=False
    )
    assert made.metrics["click"]["gauc"] > 0.8


def test_wrong_settings_are_named() -> None:
    for settings_, what in (
        ({"kind": "triple", "group": "user_id"}, "not one of pairwise"),
        ({"kind": "pairwise"}, "needs group"),
        ({"group": "user_id", "strength": 0}, "above 0"),
        ({"group": "user_id", "tasks": ["buy"]}, "'buy'"),
        ({"group": "user_id", "grup": 1}, "unknown setting 'grup'"),
    ):
        with pytest.raises(ConfigError, match=what):
            RankingLoss(settings_, ("click",), ("click",))
