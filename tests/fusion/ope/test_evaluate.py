"""Logs and policies that carry no estimate get one clear error or a status, never a number."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from fusion.ope import BANDIT, ESTIMATORS, STATUSES, Episodes, Estimate, Evaluator, Target
from fusion.ope.evaluate import BEYOND
from fusion.policy.exploration import Exploration, Gaussian
from tests.fusion.ope.small import Table, evaluator, log, policy, truth

DECISIONS = ("ips", "snips", "dr", "sndr", "switch_dr", "dros")
WEIGHTED = ("is", "pdis", "ncis", "session_dr")
OF_LISTS = ("fqe", "conservative_ope", "fqe_network", "session_dr", "slate_ordered", "slate_set", "slate_rips")


@pytest.fixture(scope="module")
def table() -> Table:
    return log(policy("logging", 0.0), 600, seed=1)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_log_without_propensities_has_no_weights_but_models_still_answer(name: str, table: Table) -> None:
    blind = replace(table, propensity=np.full(len(table.reward), np.nan))
    found = evaluator(blind).estimate(name, policy("near", 0.1))
    assert (found.status, isnan(found.value)) == ("no_propensity", True)
    assert evaluator(blind).estimate("fqe", policy("near", 0.1)).status == "ok"


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_policy_without_noise_needs_a_kernel(name: str, table: Table) -> None:
    still = policy("still", 0.1, None)
    assert evaluator(table).estimate(name, still).status == "no_density"
    kernel = Exploration({"kernel": (1.0, Gaussian(0.3))})
    smoothed = evaluator(table, kernel=kernel).estimate(name, still)
    assert smoothed.status == "ok"
    assert "smoothed" in smoothed.note
    assert evaluator(table).estimate("fqe", still).status == "ok"


@pytest.mark.parametrize("name", OF_LISTS)
def test_a_log_without_candidates_says_so(name: str, table: Table) -> None:
    bare = evaluator(replace(table, candidate_scores=None))
    assert bare.estimate(name, policy("near", 0.1)).status == "no_candidates"
    assert bare.estimate("pdis", policy("near", 0.1)).status == "ok"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_policy_for_other_tasks_is_refused(name: str, table: Table) -> None:
    wider = Target("wider", lambda obs: np.zeros((len(obs), 3)), Exploration({"own": (1.0, Gaussian(0.3))}))
    found = evaluator(table).estimate(name, wider)
    assert (found.status, isnan(found.value)) == ("other_tasks", True)
    named = replace(policy("near", 0.1), params=("w_click",))
    assert evaluator(table, params=("w_like",)).estimate(name, named).status == "other_tasks"


def test_a_policy_outside_the_box_is_an_error(table: Table) -> None:
    with pytest.raises(ConfigError, match=r"acts at 1\.5"):
        evaluator(table).estimate("fqe", policy("out", 1.5))
    with pytest.raises(ConfigError, match="unknown estimator 'magic'"):
        evaluator(table).estimate("magic", policy("near", 0.1))


def test_logged_actions_outside_the_box_are_an_error(table: Table) -> None:
    with pytest.raises(DataError, match=r"is 1\.7"):
        Episodes.from_table(replace(table, action=np.where(table.action > 0.5, 1.7, table.action).astype(np.float32)))


def test_sessions_with_gaps_are_left_out_or_stop_everything(table: Table) -> None:
    rows = np.ones(len(table.reward), bool)
    inner = np.flatnonzero(table.step == 1)
    rows[inner[:3]] = False  # three sessions lose their second page; two of them at least go on after it
    few = replace(table, **{n: c[rows] for n, c in vars(table).items()})
    kept = Episodes.from_table(few)
    assert 0 < kept.n_gaps <= 3
    assert kept.n_sessions == 600 - kept.n_gaps
    rows[inner] = False
    with pytest.raises(DataError, match=r"sessions lack pages .*from_log\(gaps='drop'\)"):
        Episodes.from_table(replace(table, **{n: c[rows] for n, c in vars(table).items()}))
    with pytest.raises(DataError, match="no pages"):
        Episodes.from_table(replace(table, **{n: c[:0] for n, c in vars(table).items()}))


def test_rows_may_come_in_any_order(table: Table) -> None:
    order = np.random.default_rng(0).permutation(len(table.reward))
    mixed = replace(table, **{n: c[order] for n, c in vars(table).items()})
    near = policy("near", 0.1)
    assert evaluator(mixed).estimate("pdis", near) == evaluator(table).estimate("pdis", near)


def test_a_cap_that_cuts_most_of_the_weight_is_no_estimate_of_the_target() -> None:
    """A cap of 1 on a policy far away would return the logging policy's own mean."""
    far = policy("far", 0.9)
    ev = evaluator(log(policy("logging", 0.0), 2000, seed=3))
    found = Evaluator(ev.episodes, settings=replace(ev.settings, cap=0.05)).estimate("ncis", far)
    assert found.status == "too_little_overlap"


def cut_at_random(table: Table, seed: int = 0) -> Table:
    """Every page but a session's last is cut after with probability .3; the page after it is known by its state alone."""
    rng = np.random.default_rng(seed)
    last = np.r_[table.session[1:] != table.session[:-1], True]
    cut = ~last & (rng.random(len(last)) < 0.3)
    after = np.concatenate([[0], np.cumsum(cut)[:-1]])
    gone = after - after[np.searchsorted(table.session, table.session)] > 0  # a page before this one was cut after
    next_obs = table.obs.copy()
    next_obs[:-1] = np.where(last[:-1, None], table.obs[:-1], table.obs[1:])
    cut_table = replace(table, next_obs=next_obs, truncated=cut)
    return replace(table, **{n: c[~gone] for n, c in vars(cut_table).items()})


@pytest.mark.parametrize("name", ["fqe", "fqe_action", "conservative_ope"])
def test_cut_sessions_are_valued_as_if_they_had_gone_on(name: str) -> None:
    table, near = cut_at_random(log(policy("logging", 0.0), 6000, seed=5)), policy("near", 0.15)
    ev = evaluator(table)
    up_to = ev.estimate(name, near)
    beyond = Evaluator(ev.episodes, features=ev.features, settings=replace(ev.settings, beyond_cuts=True)).estimate(name, near)
    wanted = truth(near)
    assert beyond.value == pytest.approx(wanted, rel=0.04)
    assert beyond.low < wanted < beyond.high
    assert up_to.high < 0.9 * wanted


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_cannot_look_beyond_a_cut_says_so(name: str) -> None:
    ev = evaluator(cut_at_random(log(policy("logging", 0.0), 300, seed=5)))
    beyond = Evaluator(ev.episodes, features=ev.features, settings=replace(ev.settings, beyond_cuts=True))
    assert (beyond.estimate(name, policy("near", 0.1)).status == "cut_sessions") == (name not in BEYOND)


@pytest.mark.parametrize("name", BANDIT)
def test_single_decisions_need_single_pages(name: str, table: Table) -> None:
    assert evaluator(table).estimate(name, policy("near", 0.1)).status == "many_pages"


def test_on_single_pages_sessions_and_decisions_agree(table: Table) -> None:
    ev = evaluator(table)
    pages = Evaluator(ev.episodes.pages(), features=ev.features, settings=ev.settings)
    near = policy("near", 0.1)
    for decision, session in (("ips", "is"), ("ips", "pdis"), ("dm", "fqe"), ("dr", "session_dr")):
        assert pages.estimate(decision, near).value == pytest.approx(pages.estimate(session, near).value, rel=1e-12)
    assert pages.estimate("ips", policy("logging", 0.0)).value == pytest.approx(table.reward.mean(dtype=float), rel=1e-6)


def test_a_refused_estimate_cannot_hold_a_number() -> None:
    with pytest.raises(AssertionError):
        Estimate("p", "is", "too_little_overlap", value=1.0)
    empty = Estimate.empty("p", "is", "no_density")
    assert empty.to_json()["value"] is None
    assert empty.note == STATUSES["no_density"]


def test_the_table_asks_everything(table: Table) -> None:
    found = evaluator(table).table([policy("a", 0.0), policy("b", 0.1)], ["is", "ncis"])
    assert [(e.policy, e.estimator) for e in found] == [("a", "is"), ("a", "ncis"), ("b", "is"), ("b", "ncis")]
