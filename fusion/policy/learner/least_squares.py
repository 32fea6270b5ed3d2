"""least_squares: the direction critic on lambda-returns, solved by ridge regression, and its best action (ours; no gradients).

One step of policy improvement in the manner of least-squares policy iteration (Lagoudakis and Parr 2003) with Peng's Q(lambda)
targets: v(s) linear in the standardised state by iterated lambda-returns, then the advantage
A(s, a) = (B x(s)) (u(a) - mean u), u the unit vector of the weights and x the gate's columns and 1. The policy's weights are
proportional to B x(s). Logging again around the policy and solving again is the next step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from core.arrays import AnyArray, Floats
from core.errors import ConfigError
from fusion.policy.learner.base import lambda_returns
from fusion.policy.networks import Direction
from fusion.policy.transitions import Transitions

_CHUNK = 65_536


def least_squares(
    table: Transitions,
    *,
    gate: Sequence[int],
    gamma: float = 0.95,
    trace: float = 0.9,
    ridge_common: float = 100.0,
    ridge_gate: float = 1000.0,
    ridge_value: float = 30.0,
    rounds: int = 4,
) -> Direction:
    """Solve for a policy.

    Args:
        gate: Columns of the state that may tilt the action's effect.
        trace: Lambda of the returns.
        ridge_common, ridge_gate: Penalties, in rows, of the effect that all states share and of each gate column's own, for
            directions in standard deviations of the log.
        rounds: Times that returns are made anew from the values.

    Raises:
        ConfigError: The table has fewer rows than numbers to find.
    """
    n_params = table.n_params
    if len(table) < (len(gate) + 1) * n_params:
        raise ConfigError(f"{len(table)} pages cannot tell {(len(gate) + 1) * n_params} effects apart; log more sessions")
    mean, scale = table.obs.mean(0, dtype=float), table.obs.std(0, dtype=float)
    scale[scale < 1e-6] = 1.0

    def features(obs: AnyArray) -> Floats:
        return np.column_stack([np.ones(len(obs)), np.clip((obs - mean) / scale, -5, 5)])

    reward, terminated, session = (torch.from_numpy(np.array(x)) for x in (table.reward, table.terminated, table.session))
    gram = sum(phi.T @ phi for phi in map(features, _chunks(table.obs))) + ridge_value * np.eye(table.n_obs + 1)
    value = np.zeros(table.n_obs + 1)
    for turn in range(rounds):
        after = np.concatenate([features(obs) @ value for obs in _chunks(table.next_obs)])
        returns = lambda_returns(
            reward.double()[None],
            torch.from_numpy(after)[None],
            terminated.double(),
            session,
            gamma=gamma,
            trace=1.0 if turn == 0 else trace,
        )[0].numpy()
        if turn + 1 < rounds:
            parts = zip(_chunks(table.obs), np.split(returns, range(_CHUNK, len(table), _CHUNK)), strict=True)
            value = np.linalg.solve(gram, sum(features(obs).T @ part for obs, part in parts))
    left = returns - np.concatenate([features(obs) @ value for obs in _chunks(table.obs)])
    net = Direction(table.n_obs, n_params, gate, [table.low.tolist(), table.high.tolist()])
    tilt = _tilt(directions(table, net), left, np.asarray(table.obs[:, list(gate)], float), ridge_common, ridge_gate)
    net.tilt.copy_(torch.from_numpy(tilt))
    return net


def directions(table: Transitions, net: Direction) -> Floats:
    """Unit vectors `[n, n_params]` of the logged weights, each weight as a share of its largest value."""
    low, high = net.low.numpy().astype(float), net.high.numpy().astype(float)
    weights = low + (np.asarray(table.action, float) + 1) * 0.5 * (high - low)
    unit: Floats = weights / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-3)
    return unit


def _tilt(unit: Floats, left: Floats, gate: Floats, ridge_common: float, ridge_gate: float) -> Floats:
    """B `[n_gate + 1, n_params]`, the common effect last, by ridge regression of what values leave over."""
    unit = unit - unit.mean(0)
    spread = np.maximum(unit.std(0), 1e-9)
    unit /= spread
    x = np.hstack([*(column[:, None] * unit for column in gate.T), unit])
    penalty = np.r_[np.full(gate.shape[1] * unit.shape[1], ridge_gate), np.full(unit.shape[1], ridge_common)]
    found: Floats = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ left).reshape(-1, unit.shape[1]) / spread
    return found


def _chunks(column: AnyArray) -> list[AnyArray]:
    return [column[start : start + _CHUNK] for start in range(0, len(column), _CHUNK)]
