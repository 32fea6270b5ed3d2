"""Policies without reinforcement learning, searched by playing: grid, GP-UCB and CEM over constants, `es` from state to weights.

Each gets a number of sessions to play with, as many as the logs of the learners hold. `play(nets, n)` lets every net have `n`
sessions of its own and answers their returns `[len(nets), n]`; where sessions happen (a simulator, live traffic) is not known
here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from scipy.linalg import cho_solve, cholesky
from torch import nn

from core.arrays import Floats
from core.errors import ConfigError
from fusion.policy.networks import Actor, PolicyNet, constant

Play = Callable[[Sequence[PolicyNet], int], Floats]
Search = Callable[[Play, "Start", int, int], PolicyNet]


class Start:
    """Where a search begins.

    Args:
        hand_set: The action `[n_params]` that people chose.
        n_obs: Width of a state.
        grid: Up to three parameters (by number) that the grid varies.
        gate: Columns of the state that `es` may use.
    """

    def __init__(self, hand_set: Floats, n_obs: int, *, grid: Sequence[int] = (0,), gate: Sequence[int] = ()) -> None:
        self.hand_set, self.n_obs = np.asarray(hand_set, float), n_obs
        self.grid, self.gate = list(grid), list(gate)
        if not 1 <= len(self.grid) <= 3:
            raise ConfigError(f"a grid over {len(self.grid)} parameters; it takes 1 to 3")

    def net(self, action: Floats) -> PolicyNet:
        """A constant policy."""
        return constant(np.clip(action, -1, 1).tolist(), self.n_obs)


def hand_set(play: Play, start: Start, n_sessions: int, seed: int) -> PolicyNet:
    """What people chose; plays nothing."""
    return start.net(start.hand_set)


def grid(play: Play, start: Start, n_sessions: int, seed: int) -> PolicyNet:
    """Five values of each of up to three parameters, the others as in hand_set; the best mean return."""
    points = []
    for values in itertools.product(np.linspace(-1, 1, 5), repeat=len(start.grid)):
        point = start.hand_set.copy()
        point[start.grid] = values
        points.append(point)
    returns = play([start.net(point) for point in points], max(1, n_sessions // len(points))).mean(1)
    return start.net(points[int(returns.argmax())])


def cem(play: Play, start: Start, n_sessions: int, seed: int, *, rounds: int = 8, size: int = 24) -> PolicyNet:
    """The cross-entropy method: draw, keep the best quarter, refit; the last mean."""
    rng = np.random.default_rng(seed)
    mean, spread = start.hand_set.copy(), np.full(len(start.hand_set), 0.5)
    each = max(1, n_sessions // (rounds * size))
    for _ in range(rounds):
        points = np.clip(mean + spread * rng.standard_normal((size, len(mean))), -1, 1)
        returns = play([start.net(point) for point in points], each).mean(1)
        elite = points[np.argsort(returns)[-size // 4 :]]
        mean, spread = elite.mean(0), elite.std(0) + 0.02
    return start.net(mean)


def gp_ucb(play: Play, start: Start, n_sessions: int, seed: int, *, rounds: int = 12, size: int = 10) -> PolicyNet:
    """Bayesian optimisation: a Gaussian process over actions, batches by the upper bound, the best posterior mean tried."""
    rng = np.random.default_rng(seed)
    n_params = len(start.hand_set)
    points = np.vstack([start.hand_set[None], rng.uniform(-1, 1, (size - 1, n_params))])
    each = max(2, n_sessions // (rounds * size))
    seen, returns, noise = np.zeros((0, n_params)), np.zeros(0), np.zeros(0)
    for turn in range(rounds):
        played = play([start.net(point) for point in points], each)
        seen, returns = np.vstack([seen, points]), np.r_[returns, played.mean(1)]
        noise = np.r_[noise, played.var(1, ddof=1) / each]
        process = GaussianProcess.fitted(seen, returns, np.full(len(seen), noise.mean()))
        if turn + 1 < rounds:
            points = _batch(process, rng, size, np.sqrt(2 * np.log((turn + 2) ** 2 * n_params)))
    return start.net(seen[int(process.predict(seen)[0].argmax())])


def es(play: Play, start: Start, n_sessions: int, seed: int, *, rounds: int = 15, pairs: int = 12) -> PolicyNet:
    """Natural evolution strategy (Salimans et al. 2017) over a linear net from state to weights, antithetic, by ranks."""
    rng = np.random.default_rng(seed)
    n_params, columns = len(start.hand_set), start.gate or list(range(start.n_obs))
    mean = np.zeros((len(columns) + 1, n_params))
    mean[-1] = np.arctanh(np.clip(start.hand_set, -0.95, 0.95))
    each, sd, rate = max(1, n_sessions // (rounds * 2 * pairs)), 0.3, 0.5
    for turn in range(rounds):
        noise = rng.standard_normal((pairs, *mean.shape))
        tries = np.concatenate([mean + sd * noise, mean - sd * noise])
        returns = play([linear(theta, columns, start.n_obs) for theta in tries], each).mean(1)
        rank = np.argsort(np.argsort(returns)) / (2 * pairs - 1) - 0.5
        slope = np.tensordot(rank[:pairs] - rank[pairs:], noise, 1) / (pairs * sd)
        mean = mean + rate * (1 - turn / rounds) * slope
    return linear(mean, columns, start.n_obs)


def linear(theta: Floats, columns: Sequence[int], n_obs: int) -> PolicyNet:
    """tanh of a linear map of some columns of the state; `theta` `[len(columns) + 1, n_params]`, the constant last."""
    net = Actor(n_obs, theta.shape[1], [])
    layer = net.layers[0]
    assert isinstance(layer, nn.Linear)
    weight = np.zeros((theta.shape[1], n_obs))
    weight[:, list(columns)] = theta[:-1].T
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(theta[-1]))
    return net.eval().requires_grad_(False)


class GaussianProcess:
    """A constant mean and a Matern-5/2 kernel with one length, noise given; `fitted` takes the length that explains best."""

    def __init__(self, x: Floats, y: Floats, noise: Floats, length: float) -> None:
        self.x, self.length = x, length
        self.mean = float(y.mean())
        self.scale = float(max(y.var() - noise.mean(), 0.25 * y.var(), 1e-9))
        self.root = cholesky(self.scale * matern(x, x, length) + np.diag(noise + 1e-9), lower=True)
        self.solved = cho_solve((self.root, True), y - self.mean)
        self.evidence = float(-0.5 * (y - self.mean) @ self.solved - np.log(np.diag(self.root)).sum())

    @classmethod
    def fitted(cls, x: Floats, y: Floats, noise: Floats) -> GaussianProcess:
        """Of a few lengths, the one with the most evidence."""
        tries = [cls(x, y, noise, length) for length in (0.7, 1.2, 2.0, 3.5, 6.0)]
        return max(tries, key=lambda process: process.evidence)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation at `[n, P]`."""
        cross = self.scale * matern(x, self.x, self.length)
        variance = self.scale - (cross * cho_solve((self.root, True), cross.T).T).sum(1)
        return self.mean + cross @ self.solved, np.sqrt(np.maximum(variance, 1e-12))


def matern(a: Floats, b: Floats, length: float) -> Floats:
    """Matern 5/2, `[n, P]` and `[m, P]` to `[n, m]`.

    >>> matern(np.zeros((1, 2)), np.zeros((1, 2)), 1.0).tolist()
    [[1.0]]
    """
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0)) / length
    k: Floats = (1 + r + r**2 / 3) * np.exp(-r)
    return k


def _batch(process: GaussianProcess, rng: np.random.Generator, size: int, width: float) -> Floats:
    """Points of the largest upper bound, each far from those already taken."""
    best = process.x[int(process.predict(process.x)[0].argmax())]
    wide, near = rng.uniform(-1, 1, (1000, len(best))), best + 0.3 * rng.standard_normal((1000, len(best)))
    tries = np.clip(np.vstack([wide, near]), -1, 1)
    mean, spread = process.predict(tries)
    chosen: list[Floats] = []
    bound = mean + width * spread
    for _ in range(size):
        at = int(bound.argmax())
        chosen.append(tries[at])
        # a point beside one that is taken tells little more: shrink its spread by what the kernel says
        spread = spread * np.sqrt(np.maximum(1 - matern(tries, tries[at][None], process.length)[:, 0] ** 2, 0))
        bound = mean + width * spread
    return np.array(chosen)


SEARCHES: Final[Mapping[str, Search]] = {"hand_set": hand_set, "grid": grid, "gp_ucb": gp_ucb, "es": es, "cem": cem}
