"""least_squares: what an action does to lambda-returns, solved by ridge regression, and the best action (ours; no gradients).

One step of policy improvement in the manner of least-squares policy iteration (Lagoudakis and Parr 2003) with Peng's Q(lambda)
targets: v(s), linear in the standardised state and in its products with the gate's columns (who the user is said to be changes
what a like, say, foretells), by iterated lambda-returns; then the advantage, whose coefficients are B x(s), x the gate's columns
and 1. Two forms of it err differently, and with a log's candidates the policy is the mean of both:

- of the direction: A(s, a) = B x(s) (u(a) - mean u), u the unit vector of the weights; the policy's weights are B x(s);
- of the list: A(s, a) = C x(s) f(s, a), f what the page's list holds more of each term than other actions' lists would have held
  (`lists`); the policy's weights are C x(s) where they are allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve

from core.arrays import AnyArray, Floats
from core.errors import ConfigError
from fusion.policy.learner.base import lambda_returns
from fusion.policy.learner.lists import Terms, lists, within
from fusion.policy.networks import Direction
from fusion.policy.transitions import Transitions

_CHUNK = 16_384
_KINDS = 1000  # distinct gates at most, at which both forms are asked


def least_squares(
    table: Transitions,
    *,
    gate: Sequence[int],
    terms: Terms | None = None,
    gamma: float = 0.95,
    trace: float = 0.5,
    later: float = 1.5,
    ridge_common: float = 100.0,
    ridge_gate: float = 3000.0,
    ridge_list: float = 1000.0,
    ridge_value: float = 30.0,
    rounds: int = 4,
) -> Direction:
    """Solve for a policy.

    Args:
        gate: Columns of the state that may tilt the action's effect.
        terms: What the weights multiply, for the form of the list; None for the direction alone.
        trace: Lambda of the returns.
        later: So many times what follows a page counts beside its own reward: under a better policy than the log's sessions are
            longer and pages worth more.
        ridge_common, ridge_gate, ridge_list: Penalties, in rows, of the effect that all states share (in both forms) and of each
            gate column's own (of the direction, in standard deviations of the log; of the list, in mean sizes of the terms).
            ridge_value: Of v's coefficients.
        rounds: Times that returns are made anew from the values.

    Raises:
        ConfigError: The table has fewer rows than numbers to find.
        DataError: `terms` are given and the log lacks its candidates' scores.
    """
    n_params = table.n_params
    if len(table) < (len(gate) + 1) * n_params:
        raise ConfigError(f"{len(table)} pages cannot tell {(len(gate) + 1) * n_params} effects apart; log more sessions")
    net = Direction(table.n_obs, n_params, gate, [table.low.tolist(), table.high.tolist()])
    left = _left(table, gate, gamma, trace, later, ridge_value, rounds)
    kinds = np.asarray(table.obs[:, list(gate)], float)  # (n, n_gate)
    unit = directions(table, net)
    tilt = _tilt(unit, unit.std(0), left, kinds, ridge_common, ridge_gate)
    if terms is not None:
        found = lists(table, terms)
        effect = _tilt(found.shift, np.ones(n_params), left, kinds, ridge_common, ridge_list)
        largest = np.maximum(np.abs(table.low), np.abs(table.high)).astype(float)
        at = np.unique(kinds, axis=0) if len(gate) else np.zeros((1, 0))
        if len(at) > _KINDS:
            at = kinds[np.random.default_rng(0).choice(len(kinds), _KINDS, replace=False)]
        x = np.column_stack([at, np.ones(len(at))])
        of_list = np.array([within(row, found.spread, table.low, table.high) for row in x @ effect]) / found.scale / largest
        wanted = x @ tilt
        of_direction = np.where(((wanted < 0) & (table.low >= 0)) | ((wanted > 0) & (table.high <= 0)), 0.0, wanted)
        tilt = np.linalg.lstsq(x, _unit(of_direction) + _unit(of_list), rcond=None)[0]
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


def _left(table: Transitions, gate: Sequence[int], gamma: float, trace: float, later: float, ridge: float, rounds: int) -> Floats:
    """What values leave over of every page's return, `[n]`, with what follows the page counted `later` times."""
    values = Values(table.obs, gate, ridge)
    value, returns = np.zeros(values.n), np.zeros(len(table))
    for turn in range(rounds):
        returns = _returns(table, values.of(table.next_obs, value), gamma, 1.0 if turn == 0 else trace)
        value = values.fit(returns)
    returns += (later - 1) * (returns - table.reward)
    left: Floats = returns - values.of(table.obs, values.fit(returns))
    return left


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


def _tilt(x: Floats, scale: Floats, left: Floats, gate: Floats, ridge_common: float, ridge_gate: float) -> Floats:
    """Coefficients `[n_gate + 1, n_params]` of `x` in each gate's column, the common effect last, by ridge regression of what
    values leave over; penalties are of coefficients of `x / scale`."""
    scale = np.maximum(scale, 1e-9)
    x = (x - x.mean(0)) / scale
    products = np.hstack([*(column[:, None] * x for column in gate.T), x])
    penalty = np.r_[np.full(gate.shape[1] * x.shape[1], ridge_gate), np.full(x.shape[1], ridge_common)]
    found: Floats = np.linalg.solve(products.T @ products + np.diag(penalty), products.T @ left).reshape(-1, x.shape[1]) / scale
    return found


def _unit(rows: Floats) -> Floats:
    """Rows of length 1; a row of nothing stays."""
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return found


def _chunks(column: AnyArray) -> list[AnyArray]:
    return [column[start : start + _CHUNK] for start in range(0, len(column), _CHUNK)]
