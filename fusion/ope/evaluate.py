"""Several policies on one log by every estimator: each answer an `Estimate`, never a number that the log does not carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from core.arrays import Floats, Ints
from core.errors import ConfigError
from fusion.ope.bandit import BANDIT, Decisions, Moments
from fusion.ope.episodes import Episodes
from fusion.ope.estimate import Estimate
from fusion.ope.features import ActionFeatures, Features, Fuse, SlateFeatures
from fusion.ope.fqe import PENALTY, FqeFit, LinearFqe
from fusion.ope.intervals import effective_size, largest_share, percentiles, redraw
from fusion.ope.network import NetworkSettings, network_fqe
from fusion.ope.session import SESSION, Steps, cap_sweep
from fusion.ope.slate import Level, slate_rips, slate_weights
from fusion.ope.target import Noise, Target


@dataclass(frozen=True, slots=True)
class Settings:
    """How estimates are made, and when a log is too poor for one.

    Attributes:
        gamma: Discount per page; 1: the sum of a session's rewards.
        beyond_cuts: Value what would have followed where a session was cut, by fitted Q (weights cannot: `cut_sessions`); returns
            count up to the cut otherwise.
        cap: The weight at which NCIS cuts.
        ridge, widen: Of fitted Q: the ridge on standardised features; by how much its interval is wider than the redraws say,
            for the model's own bias (found on simulated worlds; see docs/ope.md).
        min_effective: Fewer effective sessions than this, also before weights are capped: `too_little_overlap`.
        max_reach: Actions further than this beyond the logged ones in the model's features: `too_little_overlap`.
        n_redraws: Of users, for intervals; fitted Q takes a fifth of them.
        slate_draws, slate_sessions: Monte Carlo draws a page and sessions at most, for slate weights.
        network, network_seeds: Of the network's fit.
    """

    gamma: float = 1.0
    beyond_cuts: bool = False
    cap: float = 10.0
    ridge: float = 0.02
    widen: float = 1.9
    min_effective: float = 50.0
    max_reach: float = 1.3
    n_redraws: int = 500
    slate_draws: int = 32
    slate_sessions: int = 1000
    network: NetworkSettings = field(default_factory=NetworkSettings)
    network_seeds: tuple[int, ...] = (0, 1, 2)
    seed: int = 0


class Evaluator:
    """A log, ready to be asked about policies.

    Args:
        episodes: The log's sessions.
        features: What fitted Q sees; by default the slate's, where `fuse` and scores are there, else the action's.
        logging: The policy that wrote the log, for slate weights (its propensities are in the log itself).
        kernel: Laid over deterministic policies, whose actions have no density; without it they get `no_density`.
        fuse, page_size: How actions rank candidates.
        params: Names of the log's action columns; a policy that names others gets `other_tasks`.
    """

    def __init__(
        self,
        episodes: Episodes,
        *,
        features: Features | None = None,
        logging: Target | None = None,
        kernel: Noise | None = None,
        fuse: Fuse | None = None,
        page_size: int = 0,
        params: tuple[str, ...] = (),
        settings: Settings | None = None,
    ) -> None:
        self.episodes, self.logging, self.kernel, self.fuse = episodes, logging, kernel, fuse
        self.page_size, self.params, self.settings = page_size, params, settings or Settings()
        self.features: Features = features or ActionFeatures(gates=(), degree=2)

    def estimate(self, estimator: str, target: Target) -> Estimate:
        """One policy by one estimator.

        Raises:
            ConfigError: The estimator is unknown, or the policy acts outside [-1, 1].
        """
        if estimator not in ESTIMATORS:
            raise ConfigError(f"unknown estimator {estimator!r}; estimators are {', '.join(ESTIMATORS)}")
        e = self.episodes
        others = target.params and self.params and tuple(target.params) != tuple(self.params)
        if others or target.act(e.obs[:1]).shape[1] != e.action.shape[1]:
            return Estimate.empty(target.name, estimator, "other_tasks", n=e.n_sessions)
        if self.settings.beyond_cuts and estimator not in BEYOND and e.truncated.any():
            return Estimate.empty(target.name, estimator, "cut_sessions", n=e.n_sessions)
        if estimator in BANDIT and e.n_sessions < len(e):
            return Estimate.empty(target.name, estimator, "many_pages", n=e.n_sessions)
        return ESTIMATORS[estimator](self, target)

    def table(self, targets: Iterable[Target], estimators: Iterable[str]) -> list[Estimate]:
        """Every policy by every estimator, policies outermost."""
        names = list(estimators)
        return [self.estimate(name, target) for target in targets for name in names]

    @property
    def logged(self) -> Estimate:
        """What the logging policy itself got: the mean return with its interval."""
        steps = Steps(self.episodes.reward, np.ones(len(self.episodes)), self.episodes.first, self.settings.gamma)
        return self._weighted(
            "logging policy", "logged", Moments(steps.session_return[:, None], _mean, steps.weight), steps.weight
        )

    def weighed(self, target: Target) -> Target | str:
        """The target with a density, or the status that says why weights cannot be computed."""
        if not self.episodes.has_propensity:
            return "no_propensity"
        if target.noise is not None:
            return target
        return "no_density" if self.kernel is None else target.smooth(self.kernel)

    def steps(self, target: Target) -> Steps:
        """The log's steps with the target's ratios."""
        e = self.episodes
        ratio = target.density(e.action, e.obs) / e.propensity
        return Steps(e.reward, ratio, e.first, self.settings.gamma)

    @cached_property
    def linear(self) -> LinearFqe:
        """Fitted Q on the whole log."""
        return self._fqe(self.episodes, self.features)

    @cached_property
    def plain(self) -> LinearFqe:
        """Fitted Q with features of the action alone."""
        return self._fqe(self.episodes, ActionFeatures(gates=(), degree=2))

    @cached_property
    def halves(self) -> list[tuple[Ints, LinearFqe]]:
        """Sessions of every second user, and a fit on the OTHER users' sessions, twice."""
        users = np.unique(self.episodes.user[self.episodes.first], return_inverse=True)[1]
        side = np.random.default_rng(self.settings.seed).permutation(int(users.max()) + 1)[users] % 2
        mine = [np.flatnonzero(side == half) for half in (0, 1)]
        return [(mine[half], self._fqe(self.episodes.take(mine[1 - half]), self.features)) for half in (0, 1)]

    def _fqe(self, episodes: Episodes, features: Features) -> LinearFqe:
        s = self.settings
        return LinearFqe(episodes, features, gamma=s.gamma, ridge=s.ridge, seed=s.seed, beyond_cuts=s.beyond_cuts)

    def _weighted(self, policy: str, estimator: str, moments: Moments, raw: Floats, note: str = "") -> Estimate:
        """An estimate of sessions from its moments; `raw` are the weights before any cut."""
        s, n = self.settings, len(moments.terms)
        known: dict[str, Any] = {
            "n": n,
            "effective": effective_size(moments.weight),
            "largest": largest_share(moments.weight),
            "capped": moments.n_capped / n,
        }
        # a cap that takes much of the target's weight away leaves the logging policy, and short sessions above all
        lost = moments.weight.sum() < 0.8 * raw.sum() or effective_size(raw) < s.min_effective
        if known["effective"] < s.min_effective or not 0.5 <= raw.mean() <= 2.0 or lost:
            return Estimate.empty(policy, estimator, "too_little_overlap", **known)
        user = self.episodes.user[self.episodes.first][:n]
        low, high = percentiles(redraw(moments, user, n_redraws=s.n_redraws, seed=s.seed))
        return Estimate(policy, estimator, "ok", moments.value, low, high, note=note, **known)

    def _fitted(self, policy: str, estimator: str, fit: FqeFit, note: str = "") -> Estimate:
        s = self.settings
        known: dict[str, Any] = {
            "n": self.episodes.n_sessions,
            "effective": effective_size(fit.weight) * self.episodes.n_sessions / len(self.episodes),
            "largest": largest_share(fit.weight),
            "reach": fit.reach,
        }
        if not fit.converged:
            return Estimate.empty(policy, estimator, "not_converged", **known)
        if fit.reach > s.max_reach or known["effective"] < s.min_effective:
            return Estimate.empty(policy, estimator, "too_little_overlap", **known)
        low, high = percentiles(fit.redrawn)
        low, high = fit.value + s.widen * (low - fit.value), fit.value + s.widen * (high - fit.value)
        return Estimate(policy, estimator, "ok", fit.value, low, high, note=note, **known)


def _mean(means: Floats) -> Floats:
    value: Floats = means[..., 0]
    return value


def _sessions(name: str) -> Callable[[Evaluator, Target], Estimate]:
    """A weighted estimator of whole sessions."""

    def estimate(ev: Evaluator, target: Target) -> Estimate:
        weighed = _weighable(ev, target, name)
        if isinstance(weighed, Estimate):
            return weighed
        steps = _steps(ev, weighed, name)
        options = {"cap": ev.settings.cap} if name == "ncis" else {}
        notes = ["of the policy smoothed by a kernel"] if weighed.smoothed else []
        if name == "ncis":
            swept = ", ".join(f"{cap:g}: {found.value:.3f}" for cap, found in cap_sweep(steps).items())
            notes.append(f"by cap {swept}")
        note = "; ".join(notes)
        return ev._weighted(target.name, name, SESSION[name](steps, **options), steps.weight, note)

    return estimate


def _weighable(ev: Evaluator, target: Target, name: str) -> Target | Estimate:
    """The target with a density, or the estimate that says why its actions cannot be weighed."""
    weighed = ev.weighed(target)
    if isinstance(weighed, str):
        return Estimate.empty(target.name, name, weighed, n=ev.episodes.n_sessions)
    if name in MODELLED and _lacks_scores(ev):
        return Estimate.empty(target.name, name, "no_candidates", n=ev.episodes.n_sessions)
    return weighed


def _steps(ev: Evaluator, target: Target, name: str) -> Steps:
    """The target's steps, with a model's values where the estimator has one."""
    steps = ev.steps(target)
    return _with_model(ev, target, steps) if name in MODELLED else steps


def _with_model(ev: Evaluator, target: Target, steps: Steps) -> Steps:
    """Steps with a Q that was fitted on other users' sessions."""
    e = ev.episodes
    q, v, session = np.empty(len(e)), np.empty(len(e)), e.session
    for mine, model in ev.halves:
        rows = np.flatnonzero(np.isin(session, mine))
        q[rows], v[rows] = model.q_values(model.evaluate(target, n_redraws=0), e.take(mine), target)
    return replace(steps, q_logged=q, v_target=v)


def _decisions(name: str) -> Callable[[Evaluator, Target], Estimate]:
    """A weighted estimator of single decisions: sessions of one page each."""

    def estimate(ev: Evaluator, target: Target) -> Estimate:
        weighed = _weighable(ev, target, name)
        if isinstance(weighed, Estimate):
            return weighed
        e, steps = ev.episodes, _steps(ev, weighed, name)
        q, v = (np.zeros(len(e)) if x is None else x for x in (steps.q_logged, steps.v_target))
        found = BANDIT[name](Decisions(e.reward, e.propensity, weighed.density(e.action, e.obs), q, v))
        note = "of the policy smoothed by a kernel" if weighed.smoothed else ""
        return ev._weighted(target.name, name, found, steps.weight, note)

    return estimate


def _fqe(name: str, penalty: float) -> Callable[[Evaluator, Target], Estimate]:
    def estimate(ev: Evaluator, target: Target) -> Estimate:
        if name != "fqe_action" and _lacks_scores(ev):
            return Estimate.empty(target.name, name, "no_candidates", n=ev.episodes.n_sessions)
        model = ev.plain if name == "fqe_action" else ev.linear
        return ev._fitted(target.name, name, model.evaluate(target, penalty=penalty, n_redraws=ev.settings.n_redraws // 5))

    return estimate


def _network(ev: Evaluator, target: Target) -> Estimate:
    """The network's mean over seeds; its interval adds the seeds' spread to the linear fit's: conservative, not refitted."""
    linear = ESTIMATORS["fqe"](ev, target)
    if linear.status != "ok":
        return replace(linear, estimator="fqe_network")
    s = ev.settings
    values = network_fqe(ev.episodes, target, ev.features, seeds=s.network_seeds, gamma=s.gamma, settings=s.network)
    value = float(values.mean())
    spread = 1.96 * float(values.std(ddof=1)) if len(values) > 1 else 0.0
    low, high = (float(np.hypot(side - linear.value, spread)) for side in (linear.low, linear.high))
    note = (
        f"{len(values)} seeds, {values.min():.3f} to {values.max():.3f}; interval conservative: the linear fit's and the seeds'"
    )
    return replace(linear, estimator="fqe_network", value=value, low=value - low, high=value + high, note=note)


def _slate(name: str, level: Level) -> Callable[[Evaluator, Target], Estimate]:
    """PDIS with weights of the induced slates, RIPS at level `position`, on at most `slate_sessions` sessions."""

    def estimate(ev: Evaluator, target: Target) -> Estimate:
        e, s = ev.episodes, ev.settings
        status = (
            "no_candidates"
            if e.scores is None
            else "no_position_rewards"
            if level == "position" and e.position_rewards is None
            else "no_fusion"
            if ev.fuse is None
            else "no_density"
            if ev.logging is None
            else ""
        )
        if status or ev.fuse is None or ev.logging is None:
            return Estimate.empty(target.name, name, status, n=e.n_sessions)
        chosen = np.sort(np.random.default_rng(s.seed).permutation(e.n_sessions)[: s.slate_sessions])
        some = e if len(chosen) == e.n_sessions else e.take(chosen)
        found = slate_weights(
            some,
            target,
            ev.logging,
            ev.fuse,
            page_size=ev.page_size,
            level=level,
            n_draws=s.slate_draws,
            around=ev.kernel,
            seed=s.seed,
        )
        (moments, weight), (half, _) = (_slate_moments(some, w, s.gamma) for w in (found.weight, found.half))
        note = f"Monte Carlo bias about {half.value - moments.value:+.3f}; {found.hit_share:.0%} of the slates were drawn again"
        small = Evaluator(some, settings=s)
        return small._weighted(target.name, name, moments, weight, note)

    return estimate


def _slate_moments(e: Episodes, weight: Floats, gamma: float) -> tuple[Moments, Floats]:
    """What slates' weights `[n]` average, or prefixes' `[n, k]`, and the weights of whole sessions `[S]`."""
    if weight.ndim == 1:
        steps = Steps(e.reward, weight, e.first, gamma)
        return SESSION["pdis"](steps), steps.weight
    assert e.position_rewards is not None
    steps = Steps(e.reward, weight[:, -1], e.first, gamma)
    return slate_rips(steps, np.asarray(e.position_rewards, np.float64), weight), steps.weight


def _lacks_scores(ev: Evaluator) -> bool:
    return isinstance(ev.features, SlateFeatures) and ev.episodes.scores is None


BEYOND: Final = ("fqe", "conservative_ope", "fqe_action")  # can value what follows a cut
MODELLED: Final = ("session_dr", "dr", "sndr", "switch_dr", "dros")  # weigh what a model of the other users leaves over
ESTIMATORS: Final[Mapping[str, Callable[[Evaluator, Target], Estimate]]] = {
    "fqe": _fqe("fqe", 0.0),
    "conservative_ope": _fqe("conservative_ope", PENALTY),
    "fqe_action": _fqe("fqe_action", 0.0),
    "fqe_network": _network,
    "is": _sessions("is"),
    "pdis": _sessions("pdis"),
    "ncis": _sessions("ncis"),
    "session_dr": _sessions("session_dr"),
    "slate_ordered": _slate("slate_ordered", "ordered"),
    "slate_set": _slate("slate_set", "set"),
    "slate_rips": _slate("slate_rips", "position"),
    "ips": _decisions("ips"),
    "snips": _decisions("snips"),
    "dm": _fqe("dm", 0.0),
    "dr": _decisions("dr"),
    "sndr": _decisions("sndr"),
    "switch_dr": _decisions("switch_dr"),
    "dros": _decisions("dros"),
}
