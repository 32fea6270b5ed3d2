"""least_squares recovers effects that are known, and its net acts in proportion to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from fusion.policy.learner.least_squares import Values, directions, least_squares
from fusion.policy.networks import Direction, build
from fusion.policy.transitions import Transitions

EFFECT = np.array([[2.0, 0.0, 1.0], [0.0, 2.0, 1.0]])  # of the weights' direction, for users of kind 0 and of kind 1


def table(n: int = 6000) -> Transitions:
    """Sessions of two pages: the first page's direction pays on the second page only, as a hidden mood would."""
    rng = np.random.default_rng(0)
    session, step = np.repeat(np.arange(n // 2), 2), np.tile([0, 1], n // 2)
    kind = rng.integers(0, 2, n // 2)[session]
    action = rng.uniform(-1, 1, (n, 3))
    weights = np.array([0.0, 0.0, -1.0]) + (action + 1) / 2
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    signed = EFFECT[kind] * np.array([1, 1, -1])  # the third weight runs from -1 to 0: its negative direction is wanted
    pays = (signed * unit).sum(1)
    reward = np.where(step == 1, np.roll(pays, 1), 0.0) + 0.1 * rng.normal(size=n)
    columns: dict[str, Any] = {"session": session, "step": step, "action": action, "reward": reward}
    obs = np.column_stack([kind == 0, kind == 1, step]).astype(float)
    columns |= {"obs": obs, "next_obs": np.roll(obs, -1, 0), "terminated": step == 1, "truncated": np.zeros(n, bool)}
    names: dict[str, Any] = {"obs_names": ["kind_0", "kind_1", "step"], "param_names": ["a", "b", "c"]}
    return Transitions.from_log(columns, low=np.array([0.0, 0, -1]), high=np.array([1.0, 1, 0]), **names)


def test_lambda_returns_find_what_one_step_cannot_see() -> None:
    rows = table()
    first = rows.take(rows.step == 0)
    obs = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    weights = rows.low + (least_squares(rows, gate=[0, 1], trace=1.0, ridge_gate=10.0).act(obs).numpy() + 1) / 2
    assert weights == pytest.approx(np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5]]), abs=0.2)
    blind = least_squares(rows, gate=[0, 1], trace=0.0, ridge_gate=10.0)
    assert np.abs(blind.tilt.numpy()).max() < 0.2 < np.abs(EFFECT).max(), "the state hides the first page's effect"
    assert len(first) == len(rows) // 2


def test_the_net_cuts_what_its_ranges_forbid_and_scales_the_rest_to_one() -> None:
    net = Direction(2, 3, [1], [[0.0, 0.0, -4.0], [2.0, 1.0, 0.0]])
    net.tilt.copy_(torch.tensor([[1.0, 0.0, 0.0], [3.0, -1.0, -2.0]]))
    again = build(net.to_config())
    again.load_state_dict(net.state_dict())
    action = again.act(torch.tensor([[9.0, 1.0], [9.0, -3.0]])).numpy()
    weights = np.array([0.0, 0, -4]) + (action + 1) / 2 * np.array([2.0, 1, 4])
    assert weights == pytest.approx(np.array([[2.0, 0.0, -2.0], [0.0, 0.0, -4.0]]), abs=1e-6)


def test_a_net_that_wants_nothing_stays_in_the_middle() -> None:
    net = Direction(1, 2, [0], [[0.0, 0.0], [1.0, 1.0]])
    net.tilt.copy_(torch.tensor([[0.0, 0.0], [-1.0, -2.0]]))
    assert net.act(torch.zeros(1, 1)).tolist() == [[0.0, 0.0]]


def test_directions_have_unit_length_in_shares_of_the_largest_weight() -> None:
    rows = table(200)
    net = Direction(3, 3, [0], [rows.low.tolist(), rows.high.tolist()])
    assert np.linalg.norm(directions(rows, net), axis=1) == pytest.approx(np.ones(200))


def test_too_few_pages_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 pages cannot tell 9 effects apart"):
        least_squares(table(4), gate=[0, 1])


def test_values_know_what_each_kind_of_user_makes_of_the_rest() -> None:
    rng = np.random.default_rng(1)
    kind, x = rng.integers(0, 2, 4000), rng.normal(size=4000)
    obs = np.column_stack([kind == 0, kind == 1, x]).astype(np.float32)
    y = np.where(kind == 0, 1.0, -1.0) * x + 3.0
    values = Values(obs, [0, 1], 1.0)
    assert values.of(obs, values.fit(y)) == pytest.approx(y, abs=0.02)
    plain = Values(obs, [], 1.0)
    assert np.abs(plain.of(obs, plain.fit(y)) - y).mean() > 0.7, "without the products both kinds share one slope"
