"""A policy in the engine: state from context and user table, a fallback that is said, and a page even when it is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.events import Request
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.policy.exploration import boxed
from fusion.policy.networks import build
from fusion.policy.state import Feature, StateSpec
from fusion.policy.strategy import PolicyStrategy
from serving.engine import Engine
from serving.loading import profiles
from serving.outbox import Outbox
from serving.rules import Rules
from tests.serving.fakes import Entry, release

FORMULA = Formula.parse("w_click * click + w_like * like", tasks=["click", "like"], params=["w_click", "w_like"])
RANGES = {"w_click": (0.0, 1.0), "w_like": (0.0, 1.0)}
STATE = StateSpec([Feature("age", "user", "age", scale=0.01), Feature("step", "request", "step")])
USERS = LoggedDataset({"user_id": np.array([1, 2]), "age": np.array([80, 20]), "name": np.array(["a", "b"], object)})
CONTEXT: Mapping[str, Any] = {"step": 1}


def engine(**changes: Any) -> Engine:
    """Everybody gets the policy."""
    net = build({"kind": "actor", "n_obs": 2, "n_params": 2, "hidden": []})
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(torch.tensor([[9.0, 0.0], [-9.0, 0.0]]) if name.endswith("weight") else torch.tensor([-4.5, 4.5]))
    policy = PolicyStrategy(FORMULA, RANGES, STATE, net, {"w_click": 0.0, "w_like": 1.0}, changes.get("exploration"))
    served = replace(release(policy=policy), profile=profiles(USERS, policy.user_columns))
    rules = changes.get("rules")
    return Engine(served, assign=lambda r: {"fusion": Entry("x", "b", "policy", r.user_id)}, rules=rules, deadline_ms=1e6)


def ask(user_id: str, **context: Any) -> Request:
    return Request("r1", user_id, np.array([100, 900]), context=context)


def test_the_old_get_clicks_and_the_young_get_likes() -> None:
    """Weight on click is (tanh(9 age - 4.5) + 1) / 2: near 1 for user 1, near 0 for user 2."""
    assert engine().rank(ask("1", step=1)).items.tolist() == [900, 100]
    assert engine().rank(ask("2", step=1)).items.tolist() == [100, 900]
    ranked = engine().run(ask("1", step=1))
    assert ranked.decision is not None
    np.testing.assert_allclose(ranked.decision.state, [0.8, 1.0], rtol=1e-6)
    assert (ranked.slate.strategy, ranked.slate.degraded, ranked.slate.propensity) == ("policy", None, 1.0)


@pytest.mark.parametrize(("request_", "said"), [(ask("3", step=1), "policy:no_state:age"), (ask("1"), "policy:no_state:step")])
def test_a_request_without_its_state_gets_the_fallback_and_is_called_degraded(request_: Request, said: str) -> None:
    ranked = engine().run(request_)
    assert ranked.slate.items.tolist() == [100, 900]
    assert (ranked.slate.strategy, ranked.slate.degraded, ranked.decision) == ("policy", said, None)


def test_a_caller_cannot_pretend_to_be_another_user() -> None:
    """The user's row comes from the table, whatever the context says."""
    ranked = engine().run(ask("2", step=1, user="x", age=80))
    assert ranked.decision is not None
    np.testing.assert_allclose(ranked.decision.state, [0.2, 1.0], rtol=1e-6)


def test_a_broken_policy_costs_nobody_a_page() -> None:
    made = engine()
    policy = made.release.strategies["policy"]
    assert isinstance(policy, PolicyStrategy)
    with torch.no_grad():
        next(policy.network.parameters()).fill_(float("nan"))
    broken = PolicyStrategy(policy.formula, policy.ranges, policy.state, policy.network, policy.fallback)
    made.use(replace(made.release, strategies={**made.release.strategies, "policy": broken}))
    slate = made.rank(ask("1", step=1))
    assert (slate.strategy, slate.degraded) == ("by_click", "policy:DataError")
    assert slate.items.tolist() == [900, 100]


def test_exploration_is_logged_with_its_candidates_even_where_rules_changed_the_page() -> None:
    """The slate's propensity is then unknown, the action's density is not; candidates are kept all the same."""
    for rules in (None, Rules.parse([{"kind": "block", "column": "author", "values": [9]}], lambda name, ids: ids // 100)):
        outbox = Outbox(5, 0.0, lambda: 0.5)
        ranked = engine(exploration=boxed(), rules=rules).run(ask("1", step=1))
        outbox.add(ranked)
        batch = outbox.drain()
        assert batch is not None
        (row,) = batch.requests.to_pylist()
        assert (row["component"], row["box"]) == ("box", pytest.approx(0.15))
        assert row["candidates"] is not None
        assert row["component_density"] > 0
        assert (row["propensity"] is None) == (rules is not None)


def test_a_user_table_without_the_states_columns_is_refused_at_load() -> None:
    with pytest.raises(ConfigError, match="reads user column 'height'; the user table has user_id, age, name"):
        profiles(USERS, ["age", "height"])
    assert profiles(USERS, []) is None
