"""Terms rank a log's candidates as its policy did, whatever units the log counts its weights in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion.formula import Formula
from fusion.policy.networks import constant
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Transitions
from simulator.world import World
from workflow.policy_terms import terms_of
from workflow.policy_world import Ground
from workflow.train_policy import strategy_of


@pytest.fixture(scope="module")
def logged() -> tuple[PolicyStrategy, Ground, Transitions]:
    world = World.make("default", seed=0, n_users=100, n_items=200, n_candidates=15)
    ground = Ground.of(world, n_slots=8)
    net = constant(ground.hand_set.tolist(), len(ground.env.observer.names))
    return strategy_of(world, ground, net), ground, ground.log(40, seed=3, exploration="random", candidates=True)


def test_the_logged_weights_on_terms_show_the_logged_slates(logged: tuple[PolicyStrategy, Ground, Transitions]) -> None:
    strategy, ground, rows = logged
    terms = terms_of(strategy, rows)
    assert terms is not None
    assert rows.candidate_scores is not None
    assert rows.candidates is not None
    assert rows.slate is not None
    weights = rows.low + (rows.action + 1) * 0.5 * (rows.high - rows.low)
    for x in (terms(rows.candidate_scores), ground.terms(rows.candidate_scores)):
        best = (x @ weights[:, :, None])[..., 0].argmax(1)
        same = np.take_along_axis(rows.candidates, best[:, None], 1)[:, 0] == rows.slate[:, 0]
        assert same.mean() > 0.97, "but for near ties within the half precision of stored scores"


def test_what_is_not_stored_or_not_linear_has_no_terms(logged: tuple[PolicyStrategy, Ground, Transitions]) -> None:
    strategy, _, rows = logged
    assert terms_of(strategy, replace(rows, candidate_scores=None)) is None
    assert terms_of(strategy, replace(rows, task_names=("like",))) is None
    tasks, params = list(rows.task_names), list(strategy.ranges)
    text = " * ".join(f"(1 + {task}) ** w_{task}" for task in tasks)
    powers = PolicyStrategy(
        Formula.parse(text, tasks=tasks, params=params), strategy.ranges, strategy.state, strategy.network, strategy.fallback
    )
    assert terms_of(powers, rows) is None
