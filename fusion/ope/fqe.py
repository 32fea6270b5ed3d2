"""Fitted Q evaluation with linear features, and the paper's Conservative-OPE, both refitted on redrawn users.

With features `phi(s, a)` `[d]`, `Q = phi . theta`, each round solves

    theta' = argmin  penalty * (E_s[Q(s, pi(s))] - E_(s,a)[Q(s, a)]) + 1/2 E[(Q(s, a) - (r + gamma (1 - over) Q_k(s', pi(s'))))^2]

plus a small ridge, in closed form: `theta' = (Sigma + ridge)^-1 (b + gamma C theta - penalty (m_pi - m))` with `Sigma = E[phi
phi^T]`, `C = E[phi phi'^T]` (`phi'` = features of the next state and the target's action there, 0 after a session's last page),
`b = E[phi r]`, `m_pi = E[phi(s, pi(s))]`, `m = E[phi(s, a)]`. The value is `V = mean phi(s_0, pi(s_0)) . theta` over initial
states. Penalty 0 is plain FQE (Le, Voloshin & Yue 2019); the paper's Conservative-OPE has .5e-3 (Zhang et al. 2022, BatchRL-MTF,
after Kumar et al. 2020).

A session ends with its last logged page, whether the user left (terminated) or it was cut there (truncated): `over` is either,
and estimated is the return as the log counts it, up to the cut, which is what the mean of the logged returns is, too. With
`beyond_cuts` a user's leaving alone is an end, and a cut page bootstraps: `phi'` is that of the state it led to (`next_obs`). The
candidates of the page after a cut were never drawn, so where features describe lists, `phi'` is their mean given that state and
the page's number, by least squares over all logged pages; Q is linear in them, so it needs no more than the mean.

Of the logged actions themselves the fit says exactly their mean return, whatever the features and the ridge: the constant is a
feature without ridge, so errors `r + Q(s', a') - Q(s, a)` sum to 0 at gamma 1, and within a session all of Q but `Q(s_0, a_0)`
cancels. So there is no error on the logging policy that could be taken off other policies' values: what they are off by comes
from where they differ from the log.

Those moments are kept for blocks of users, so a redraw of blocks is refitted without touching the rows again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.arrays import AnyArray, Floats, Floats32, Ints
from core.errors import ConfigError
from fusion.ope.episodes import Episodes
from fusion.ope.features import Features, pieces
from fusion.ope.session import step_numbers
from fusion.ope.target import Target

PENALTY: Final = 0.5e-3
_TINY: Final = 1e-4  # ridge of the mean features given a state


@dataclass(frozen=True, slots=True)
class FqeFit:
    """A policy's value by fitted Q evaluation.

    Attributes:
        value: The estimate. redrawn: `[R]`, the estimate refitted on redrawn blocks of users.
        theta: `[d]`. n_rounds: How many rounds it took; `converged` says whether they settled.
        weight: `[n]`, what the estimate multiplies each logged reward by (`value = weight . reward / S`): the density ratio that
            the features imply (Duan, Jia & Wang 2020).
        reach: Mean of `phi^T Sigma^-1 phi` over the target's actions, relative to the logged ones: 1 where the target does what
            the log did, large where its values are extrapolated.
    """

    value: float
    redrawn: Floats
    theta: Floats
    n_rounds: int
    converged: bool
    weight: Floats
    reach: float


@dataclass(frozen=True, slots=True)
class _Moments:
    """Sums over each block, `G` of them: `c` `[G, d, d]`, `m_pi`, `v` `[G, d]`, `n_starts` `[G]`; and `phi_pi` `[n, d]`."""

    phi_pi: Floats32
    c: Floats
    m_pi: Floats
    v: Floats
    n_starts: Floats


class LinearFqe:
    """The logged half of a fit, shared by all policies evaluated on one log.

    Args:
        episodes: The log.
        features: Describes states and actions.
        gamma: Discount per page; 1 estimates the sum of a session's rewards.
        ridge: Added to the diagonal of `Sigma`, whose features are standardised.
        n_blocks: Blocks of users that are redrawn together.
        beyond_cuts: Value what would have followed where a session was cut; otherwise returns count up to the cut.
    """

    def __init__(
        self,
        episodes: Episodes,
        features: Features,
        *,
        gamma: float = 1.0,
        ridge: float = 0.02,
        n_blocks: int = 100,
        seed: int = 0,
        beyond_cuts: bool = False,
    ) -> None:
        if not 0 < gamma <= 1 or ridge <= 0:
            raise ConfigError(f"gamma {gamma} must lie in (0, 1] and ridge {ridge} above 0")
        self.episodes, self.gamma, self.ridge, self.seed = episodes, gamma, ridge, seed
        self._features, self.beyond_cuts = features, beyond_cuts
        self._context = features.context(episodes)
        raw = features(episodes.obs, episodes.action, episodes.scores, self._context)
        mean, spread = raw.mean(0, dtype=np.float64), raw.std(0, dtype=np.float64)
        self._columns = np.flatnonzero(spread > 1e-6 * np.maximum(1.0, np.abs(mean)))  # the others say nothing
        self._mean, self._spread = mean[self._columns], spread[self._columns]
        self._kept: tuple[Target | None, _Moments] | None = None
        self.phi = self._standard(raw)  # (n, d)
        self.blocks = user_blocks(episodes.user, n_blocks, seed)
        self._rows = [np.flatnonzero(self.blocks == block) for block in range(int(self.blocks.max()) + 1)]
        self._sigma = self._products(self.phi, self.phi)
        self._b = np.stack([self.phi[rows].T @ episodes.reward[rows] for rows in self._rows])
        self._m = self._sums(self.phi)
        self._n = np.array([len(rows) for rows in self._rows], float)

    @property
    def d(self) -> int:
        """Features, with the constant."""
        return int(self.phi.shape[1])

    def evaluate(
        self,
        target: Target | None,
        *,
        penalty: float = 0.0,
        n_redraws: int = 100,
        max_rounds: int = 1000,
        tolerance: float = 1e-7,
    ) -> FqeFit:
        """The target's value on this log; None is the policy that wrote it, by the actions that it took."""
        e, moments = self.episodes, self._moments(target)
        ones = np.ones(len(self._rows))
        sigma, move, b, v0 = self._system(moments, ones, penalty)
        step, base = np.linalg.solve(sigma, move), np.linalg.solve(sigma, b)
        theta, n_rounds, converged = base.copy(), 1, False
        while n_rounds < max_rounds and not converged:
            new = base + step @ theta
            gap = float(np.abs(new - theta).max())
            theta, n_rounds = new, n_rounds + 1
            if not np.isfinite(gap) or gap > 1e12:
                break
            converged = gap <= tolerance * max(1.0, float(np.abs(theta).max()))
        redraws = np.random.default_rng(self.seed + 2).poisson(1.0, (n_redraws, len(ones))).astype(float)
        redrawn = np.full(n_redraws, np.nan)
        if converged:
            redrawn = np.array([_value(*self._system(moments, times, penalty)) for times in redraws])
        implied = np.linalg.solve((sigma - move).T, v0) * (e.n_sessions / len(e))
        inverse = np.linalg.inv(sigma)
        some = moments.phi_pi[:: max(1, len(e) // 10_000)].astype(np.float64)
        usual = float((inverse * np.tensordot(ones, self._sigma, 1)).sum()) / len(e)  # mean of phi^T inverse phi over the log
        reach = float(((some @ inverse) * some).sum(1).mean()) / usual
        value = float(v0 @ theta) if converged else float("nan")
        return FqeFit(value, redrawn, np.asarray(theta, np.float64), n_rounds, converged, self.phi @ implied, reach)

    def q_values(self, fit: FqeFit, episodes: Episodes, target: Target) -> tuple[Floats, Floats]:
        """`Q(s, a)` of the logged actions and `Q(s, pi(s))` on another log of the same kind, `[n]` each."""
        context = self._features.context(episodes)
        logged = self._standard(self._features(episodes.obs, episodes.action, episodes.scores, context))
        return logged @ fit.theta, self._acted(episodes, target, context) @ fit.theta

    def _acted(self, e: Episodes, target: Target, context: Floats32 | None) -> Floats32:
        """Features `[n, d]` of the target's own actions at the logged states."""
        rng = np.random.default_rng(self.seed + 1)
        return self._standard(self._features(e.obs, target.sample(e.obs, rng), e.scores, context))

    def _moments(self, target: Target | None) -> _Moments:
        """The target's half of the moments; of the last policy asked for they are kept."""
        if self._kept is not None and self._kept[0] is target:
            return self._kept[1]
        e = self.episodes
        phi_pi = self.phi if target is None else self._acted(e, target, self._context)
        ahead = np.zeros_like(phi_pi)
        ahead[:-1] = phi_pi[1:]
        ahead[e.last] = 0.0
        cut = e.last[e.truncated[e.last]]
        if self.beyond_cuts and len(cut):
            ahead[cut] = self._beyond(cut, target, phi_pi)
        start = np.zeros(len(e), bool)
        start[e.first] = True
        v = np.stack([phi_pi[rows[start[rows]]].sum(0, dtype=np.float64) for rows in self._rows])
        n_starts = np.array([start[rows].sum() for rows in self._rows], float)
        found = _Moments(phi_pi, self._products(self.phi, ahead), self._sums(phi_pi), v, n_starts)
        self._kept = (target, found)
        return found

    def _beyond(self, cut: Ints, target: Target | None, phi_pi: Floats32) -> Floats32:
        """Features `[len(cut), d]` of the pages that would have followed cut ones."""
        e = self.episodes
        if self._context is None and target is not None:  # the state and the action are all there is to know
            obs = e.next_obs[cut]
            action = target.sample(obs, np.random.default_rng(self.seed + 3))
            return self._standard(self._features(obs, action, None, None))
        step = step_numbers(e.first, len(e))
        known = np.concatenate([np.ones((len(e), 1), np.float32), e.obs, pieces(step)], axis=1)
        reached = np.concatenate([np.ones((len(cut), 1), np.float32), e.next_obs[cut], pieces(step[cut] + 1)], axis=1)
        square = (known.T @ known).astype(np.float64)
        square[np.diag_indices_from(square)] += _TINY * len(e)
        found: Floats32 = (reached @ np.linalg.solve(square, known.T @ phi_pi)).astype(np.float32)
        return found

    def _system(self, m: _Moments, times: Floats, penalty: float) -> tuple[Floats, Floats, Floats, Floats]:
        """`Sigma + ridge`, `gamma C`, the right side and mean initial features, blocks counted `times` `[G]`."""
        n = float(times @ self._n)
        sigma = np.tensordot(times, self._sigma, 1) / n
        sigma[np.arange(1, self.d), np.arange(1, self.d)] += self.ridge
        move = np.tensordot(times, m.c, 1) * (self.gamma / n)
        b = (times @ self._b - penalty * (times @ (m.m_pi - self._m))) / n
        return sigma, move, b, (times @ m.v) / (times @ m.n_starts)

    def _standard(self, raw: Floats32) -> Floats32:
        phi = np.empty((len(raw), 1 + len(self._columns)), np.float32)
        phi[:, 0] = 1.0
        phi[:, 1:] = (raw[:, self._columns] - self._mean) / self._spread
        return phi

    def _products(self, left: Floats32, right: Floats32) -> Floats:
        return np.stack([(left[rows].T @ right[rows]).astype(np.float64) for rows in self._rows])

    def _sums(self, phi: Floats32) -> Floats:
        return np.stack([phi[rows].sum(0, dtype=np.float64) for rows in self._rows])


def user_blocks(user: AnyArray, n_blocks: int, seed: int) -> Ints:
    """A block `[n]` for every row: all rows of a user in one, blocks of nearly equal numbers of users.

    >>> blocks = user_blocks(np.array([7, 7, 8, 9]), 2, 0)
    >>> bool(blocks[0] == blocks[1]), sorted(set(blocks.tolist()))
    (True, [0, 1])
    """
    users, index = np.unique(user, return_inverse=True)
    if len(users) < 2:
        raise ConfigError(f"the log has {len(users)} user; intervals redraw users, so it needs at least 2")
    place = np.random.default_rng(seed).permutation(len(users)) % min(n_blocks, len(users))
    blocks: Ints = place[index]
    return blocks


def _value(sigma: Floats, move: Floats, b: Floats, v0: Floats) -> float:
    try:
        return float(v0 @ np.linalg.solve(sigma - move, b))
    except np.linalg.LinAlgError:
        return float("nan")
