"""Learned fusions: monotone whatever the data say, better than one score alone, able to learn a log-sum from its teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion.checks import CHECKS, Check
from fusion.formula import Formula
from fusion.fused import FusionStrategy
from fusion.learned.lambdamart import train_lambdamart
from fusion.learned.monotone import train_monotone
from fusion.learned.network import MonotoneNetwork
from fusion.learned.rows import distilled, labelled
from fusion.learned.trees import LambdaMart
from fusion.search import Objective, Panel, mtf_gauc
from fusion.search.kernel import _auc
from fusion.strategy import FormulaStrategy, Publishable, load_strategy, publish
from tests.fusion.conftest import make_log

TASKS = TaskSet([TaskSpec("click"), TaskSpec("like"), TaskSpec("hate", goal="down")])
GAINS = {"click": 1.0, "like": 4.0}
SCORES = ScoreTable(TASKS.names, np.random.default_rng(1).random((12, 3)))
LOG = make_log(6000, seed=2)
ROWS = labelled(LOG, TASKS.scored, GAINS)
LEARNED: dict[str, Publishable] = {
    "lambdamart": train_lambdamart(ROWS, TASKS, n_trees=30),
    "monotone_network": train_monotone(ROWS, TASKS, n_steps=250, batch=512, progress=False),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", LEARNED)
def test_learned_keeps(name: str, check: Check) -> None:
    check(LEARNED[name], SCORES, {}, TASKS)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(LEARNED)), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 2), st.floats(0, 1))
def test_raising_an_up_score_never_lowers_the_final(name: str, row: list[float], column: int, to: float) -> None:
    raised = list(row)
    raised[column] = max(row[column], to)
    before, after = (LEARNED[name].fuse(ScoreTable(TASKS.names, np.array([r])), {}).final[0] for r in (row, raised))
    assert (after - before) * (-1 if TASKS.names[column] == "hate" else 1) >= -1e-9


def _value(strategy: FusionStrategy, log: LoggedDataset) -> float:
    panel = Panel(log, Objective([mtf_gauc(GAINS)]))
    table = ScoreTable(TASKS.names, np.stack([panel.log[f"score_{t}"] for t in TASKS.names], axis=1))
    final = strategy.fuse(table, {}).final
    total = 0.0
    for u in np.flatnonzero(panel.eligible[0] > 0):
        low, high = panel.users[u], panel.users[u + 1]
        total += panel.eligible[0, u] * _auc(final[low:high], np.argsort(final[low:high]), panel.gains, int(low), 0)
    return float(total / panel.denominator[0])


@pytest.mark.parametrize("name", LEARNED)
def test_better_than_any_one_score_on_fresh_users(name: str) -> None:
    fresh = make_log(6000, seed=3)
    single = [_value(FormulaStrategy(Formula.parse(task, tasks=TASKS.names), {}), fresh) for task in ("click", "like")]
    assert _value(LEARNED[name], fresh) > max(single) + 0.01


def test_the_network_learns_a_log_sum_from_its_teacher() -> None:
    teacher = FormulaStrategy(Formula.parse("log(click + .05) + 2 * log(like + .2) - hate", tasks=TASKS.names), {})
    student = train_monotone(distilled(LOG, TASKS.scored, [teacher]), TASKS, n_steps=500, batch=512, progress=False)
    table = ScoreTable(TASKS.names, np.stack([LOG[f"score_{t}"] for t in TASKS.names], axis=1))
    a, b = (np.argsort(np.argsort(s.fuse(table, {}).final)) for s in (teacher, student))
    assert np.corrcoef(a, b)[0, 1] > 0.995


@pytest.mark.parametrize("name", LEARNED)
def test_published_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    loaded = load_strategy(publish(ArtefactStore(tmp_path), "learned", LEARNED[name]))
    np.testing.assert_array_equal(loaded.fuse(SCORES, {}).final, LEARNED[name].fuse(SCORES, {}).final)


def test_misuse() -> None:
    flat = ROWS._replace(relevance=np.zeros(len(ROWS.relevance)))
    with pytest.raises(DataError, match="nothing to learn"):
        train_lambdamart(flat, TASKS)
    with pytest.raises(DataError, match="nothing to learn"):
        train_monotone(flat, TASKS, n_steps=2, progress=False)
    with pytest.raises(ConfigError, match="score columns"):
        train_monotone(ROWS, TaskSet([TaskSpec("click")]), progress=False)
    network = LEARNED["monotone_network"]
    assert isinstance(network, MonotoneNetwork)
    with pytest.raises(ArtefactError, match="non-negative"):
        MonotoneNetwork(network.tasks, network.logit, {**network.arrays, "w2": -network.arrays["w2"]})
    with pytest.raises(ArtefactError):
        LambdaMart(["click"], "not a model")
