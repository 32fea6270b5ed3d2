"""least_squares: the direction critic on lambda-returns, solved by ridge regression, and its best action (ours; no gradients).

One step of policy improvement in the manner of least-squares policy iteration (Lagoudakis and Parr 2003) with Peng's Q(lambda)
targets: v(s), linear in the standardised state and in its products with the gate's columns (who the user is said to be changes
what a like, say, foretells), by iterated lambda-returns; then the advantage A(s, a) = (B x(s)) (u(a) - mean u), u the unit
vector of the weights and x the gate's columns and 1. The policy's weights are proportional to B x(s). Logging again around the
policy and solving again is the next step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from core.arrays import AnyArray, Floats
from core.errors import ConfigError
from fusion.policy.learner.base import lambda_returns
from fusion.policy.networks import Direction
from fusion.policy.transitions import Transitions

_CHUNK = 16_384


def least_squares(
    table: Transitions,
    *,
    gate: Sequence[int],
    gamma: float = 0.95,
    trace: float = 0.5,
    ridge_common: float = 100.0,
    ridge_gate: float = 3000.0,
    ridge_value: float = 30.0,
    rounds: int = 4,
) -> Direction:
    """Solve for a policy.

    Args:
        gate: Columns of the state that may tilt the action's effect.
        trace: Lambda of the returns.
        ridge_common, ridge_gate: Penalties, in rows, of the effect that all states share and of each gate column's own, for
            directions in standard deviations of the log. ridge_value: Of v's coefficients.
        rounds: Times that returns are made anew from the values.

    Raises:
        ConfigError: The table has fewer rows than numbers to find.
    """
    n_params = table.n_params
    if len(table) < (len(gate) + 1) * n_params:
        raise ConfigError(f"{len(table)} pages cannot tell {(len(gate) + 1) * n_params} effects apart; log more sessions")
    net = Direction(table.n_obs, n_params, gate, [table.low.tolist(), table.high.tolist()])
    values = Values(table.obs, gate, ridge_value)
    value, returns = np.zeros(values.n), np.zeros(len(table))
    for turn in range(rounds):
        returns = _returns(table, values.of(table.next_obs, value), gamma, 1.0 if turn == 0 else trace)
        value = values.fit(returns)
    left = returns - values.of(table.obs, value)
    tilt = _tilt(directions(table, net), left, np.asarray(table.obs[:, list(gate)], float), ridge_common, ridge_gate)
    net.tilt.copy_(torch.from_numpy(tilt))
    return net


class Values:
    """Ridge regression on states: 1, the standardised state, and its products with some of its columns as they are."""

    def __init__(self, obs: AnyArray, gate: Sequence[int], ridge: float) -> None:
        self._obs, self._gate = obs, list(gate)
        self._rest = [column for column in range(obs.shape[1]) if column not in self._gate]
        self._mean, self._scale = obs.mean(0, dtype=float), obs.std(0, dtype=float)
        self._scale[self._scale < 1e-6] = 1.0
        self.n = 1 + obs.shape[1] + len(self._gate) * len(self._rest)
        gram = np.diag(np.r_[1e-6, np.full(self.n - 1, ridge)])
        for part in _chunks(obs):
            x = self.features(part)
            gram += x.T @ x
        self._factor = cho_factor(gram)

    def features(self, obs: AnyArray) -> Floats:
        """`[n, n_obs]` to `[n, self.n]`."""
        x = np.clip((obs - self._mean) / self._scale, -5, 5)
        rest = x[:, self._rest]
        return np.column_stack([np.ones(len(x)), x, *(obs[:, [column]] * rest for column in self._gate)])

    def fit(self, y: Floats) -> Floats:
        """Coefficients `[self.n]` of numbers `[n]` of the states given at the start."""
        moments = np.zeros(self.n)
        for obs, part in zip(_chunks(self._obs), _chunks(y), strict=True):
            moments += self.features(obs).T @ part
        found: Floats = cho_solve(self._factor, moments)
        return found

    def of(self, obs: AnyArray, coefficients: Floats) -> Floats:
        """What coefficients say of states, `[n]`."""
        return np.concatenate([self.features(part) @ coefficients for part in _chunks(obs)])


def _returns(table: Transitions, after: Floats, gamma: float, trace: float) -> Floats:
    """Lambda-returns `[n]` of every page, from values `[n]` of what came after."""
    reward, terminated, session = (torch.from_numpy(np.array(x)) for x in (table.reward, table.terminated, table.session))
    found = lambda_returns(
        reward.double()[None], torch.from_numpy(after)[None], terminated.double(), session, gamma=gamma, trace=trace
    )
    returns: Floats = found[0].numpy()
    return returns


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
