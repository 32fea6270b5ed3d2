"""The weight of the induced slate: many fusion actions show one list, so compare how likely the LIST was, not the action.

    w = P_target(slate | request) / P_logging(slate | request),   P(slate) = integral of pi(a|s) 1{a shows the slate} da

Both probabilities by Monte Carlo on the stored candidate scores: M actions of the logging policy, M around the target's, and the
logged action itself, which is known to show the list, each weighted by the balance heuristic (Veach & Guibas 1995), so that
a list which one policy seldom shows is still hit by the other's draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Ints
from core.errors import ConfigError, DataError
from fusion.ope.bandit import Moments
from fusion.ope.episodes import Episodes
from fusion.ope.features import Fuse, top_rows
from fusion.ope.session import Steps
from fusion.ope.target import Noise, Target

Level = Literal["ordered", "set", "position"]
LEVELS: Final[tuple[Level, ...]] = ("ordered", "set", "position")


@dataclass(frozen=True, slots=True)
class SlateWeights:
    """Weights of the logged slates.

    Attributes:
        weight: `[n]`; at level `position` `[n, k]`: column j is the weight of the slate's first j + 1 items, by which RIPS
            weights the reward of position j (McInerney et al. 2020).
        half: The same from half the draws. The bias that Monte Carlo leaves falls as one over their number, so
            `estimate(half) - estimate(weight)` estimates the bias of `estimate(weight)`.
        hit_share: Pages whose slate came out of at least one draw besides the logged action.
    """

    weight: Floats
    half: Floats
    hit_share: float

    @property
    def bias(self) -> float:
        """Estimated bias of the mean weight, which is 1 where the logging policy can show every slate of the target."""
        return float(self.half.mean() - self.weight.mean())


def slate_weights(
    episodes: Episodes,
    target: Target,
    logging: Target,
    fuse: Fuse,
    *,
    page_size: int,
    level: Level = "ordered",
    n_draws: int = 64,
    around: Noise | None = None,
    seed: int = 0,
    chunk: int = 2048,
) -> SlateWeights:
    """Weights of every logged page's slate.

    Args:
        target, logging: The two policies. The target may be deterministic: it then shows one list for sure.
        fuse: Actions and candidate scores to final scores.
        level: The `ordered` slate, the `set` of its items, or each `position`'s prefix.
        n_draws: M, actions drawn from each policy for each page; even.
        around: For a deterministic target: what to draw around its action, to find how often the logging policy shows its list.

    Raises:
        DataError: The log holds no candidate scores.
        ConfigError: The logging policy has no density, or an argument breaks its rule.
    """
    if episodes.scores is None:
        raise DataError("slate weights need every candidate's scores in the log; log them where a bucket explores")
    if logging.noise is None:
        raise ConfigError(f"logging policy {logging.name!r} has no density: nothing can be weighed against it; let it explore")
    if level not in LEVELS or n_draws < 2 or n_draws % 2:
        raise ConfigError(f"level {level!r} must be one of {', '.join(LEVELS)}, and n_draws {n_draws} an even number from 2")
    rng = np.random.default_rng(seed)
    shape = (len(episodes), page_size) if level == "position" else (len(episodes), 1)
    full, half, hit = np.empty(shape), np.empty(shape), np.zeros(len(episodes), bool)
    for start in range(0, len(episodes), chunk):
        rows = slice(start, start + chunk)
        page = _Page(episodes, rows, target, logging, fuse, page_size, level, n_draws, around, rng)
        full[rows], half[rows] = page.weight(n_draws), page.weight(n_draws // 2)
        hit[rows] = page.hits[1:, :, -1].any(axis=0)
    if level == "position":
        return SlateWeights(full, half, float(hit.mean()))
    return SlateWeights(full[:, 0], half[:, 0], float(hit.mean()))


class _Page:
    """Draws for some rows `[c]`: the logged action first, then M of the logging policy, then M around the target."""

    def __init__(
        self,
        e: Episodes,
        rows: slice,
        target: Target,
        logging: Target,
        fuse: Fuse,
        k: int,
        level: Level,
        n_draws: int,
        around: Noise | None,
        rng: np.random.Generator,
    ) -> None:
        assert e.scores is not None
        assert logging.noise is not None
        obs, scores = e.obs[rows], np.asarray(e.scores[rows], np.float32)
        q_mean, p_mean = logging.act(obs), target.act(obs)
        near = target.noise or around
        draws = [np.asarray(e.action[rows], np.float64)]
        draws += [np.asarray(logging.noise.sample(q_mean, rng).action, np.float64) for _ in range(n_draws)]
        draws += [np.asarray(near.sample(p_mean, rng).action, np.float64) for _ in range(n_draws)] if near is not None else []
        logged = _ordered(top_rows(fuse(draws[0], scores), k), level)
        self.n_draws = n_draws
        shown = (_ordered(top_rows(fuse(a, scores), k), level) for a in draws)
        self.hits = np.stack([_same(slate, logged, level) for slate in shown])  # (D, c, 1 | k)
        self.q = np.stack([logging.noise.density(a, q_mean) for a in draws])  # (D, c)
        self.near = np.stack([near.density(a, p_mean) for a in draws]) if near is not None else np.zeros_like(self.q)
        self.sure: Bools | None = None  # whether a deterministic target shows the list, (c, 1 | k)
        if target.noise is None:
            self.sure = _same(_ordered(top_rows(fuse(p_mean, scores), k), level), logged, level)

    def weight(self, m: int) -> Floats:
        """Weights `[c, 1 | k]` from the first `m` draws of each policy."""
        kept = np.r_[0 : 1 + m, 1 + self.n_draws : min(1 + self.n_draws + m, len(self.hits))]
        hits, q, near = self.hits[kept], self.q[kept][:, :, None], self.near[kept][:, :, None]
        drawn = (m + 1) * q + m * near  # the balance heuristic's mixture, (D, c, 1)
        logging = (hits * q / drawn).sum(0)
        target = (hits * near / drawn).sum(0) if self.sure is None else self.sure.astype(np.float64)
        weight: Floats = target / logging
        return weight


def _ordered(slate: Ints, level: Level) -> Ints:
    return np.sort(slate, axis=1) if level == "set" else slate


def _same(slate: AnyArray, logged: AnyArray, level: Level) -> Bools:
    prefix: Bools = np.logical_and.accumulate(slate == logged, axis=1)
    return prefix if level == "position" else prefix[:, -1:]


def rips(reward: Floats, weight: Floats) -> Floats:
    """RIPS values of pages, `sum_j w_j r_j`: rewards and prefix weights by position, `[n, k]` each -> `[n]`.

    Unbiased if a position's reward depends on the items up to it only (McInerney et al. 2020).

    >>> rips(np.array([[1.0, 1.0]]), np.array([[2.0, 0.5]])).tolist()
    [2.5]
    """
    value: Floats = (reward * weight).sum(1)
    return value


def slate_rips(s: Steps, by_position: Floats, weight: Floats) -> Moments:
    """RIPS page by page: `V = mean_i sum_t gamma^t W_i,t-1 [sum_j w_itj r_itj + w_itk (r_it - sum_j r_itj)]`.

    Within a page position j's reward is weighted by the slate's first j + 1 items; what no position earned, and all later pages,
    by the whole ordered slate, since a user may have stayed for any of its items.

    Args:
        s: The log's steps, with the whole slates' weights `w_itk` as ratios.
        by_position, weight: `[n, k]`, rewards and prefix weights by position.

    >>> steps = Steps(np.array([3.0, 1.0]), np.array([0.5, 2.0]), np.array([0]))
    >>> slate_rips(steps, np.array([[2.0, 1.0], [0.0, 0.5]]), np.array([[1.0, 0.5], [1.0, 2.0]])).value
    3.5
    """
    if by_position.shape != weight.shape:
        raise DataError(f"rewards by position have shape {by_position.shape}, the pages' weights {weight.shape}; they must agree")
    page = rips(by_position, weight) + s.ratio * (s.reward - by_position.sum(1))
    return Moments(s.total(s.discount * s.before * page)[:, None], lambda m: m[..., 0], s.weight)
