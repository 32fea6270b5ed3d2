"""Fit a `LogModel` to a log: tables, logistic regressions, and random effects by the covariance within users and items."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtri
from tqdm import tqdm

from core.arrays import AnyArray, Floats, Ints, segment_ranks
from core.errors import DataError
from core.logs import LoggedDataset
from simulator.calibration.model import N_HOURS, N_QUANTILES, RATIO_EDGES, Logistic, LogModel, bin_of, ratio_bin
from simulator.calibration.source import days_of, heads_of

_RARE_SCENARIO = 0.01
_N_LEVELS = 4  # of activity
_POPULARITY = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # impressions per window at which items are told apart
_SPREAD_HIGH = 2.5
_GRID = np.linspace(0, 1, N_QUANTILES)


def fit(log: LoggedDataset, *, name: str = "log", window_days: int = 4, seed: int = 0, progress: bool = False) -> LogModel:
    """Fit all parts; the log should hold at least `window_days` full days.

    Raises:
        DataError: The log is too short, or a behaviour has one class only.
    """
    day = days_of(log)
    first, n_days = int(day.min()), int(day.max() - day.min() + 1)
    n_windows = n_days // window_days
    if n_windows < 1:
        raise DataError(f"the log has {n_days} days; calibration needs at least {window_days}")
    if not 0 < log["click"].mean() < 1:
        raise DataError("click has one class only; nothing can be calibrated to it")
    kept = (day - first) < n_windows * window_days
    log, window = log.take(kept), (day[kept] - first) // window_days
    users, user = np.unique(log["user_id"], return_inverse=True)
    items, item = np.unique(log["item_id"], return_inverse=True)
    bar = tqdm(total=4 + len(heads_of(log)), disable=not progress, desc="calibrate", unit="part")
    names, scenario = _scenarios(log)
    n_scenarios, hour = len(names), ((log["time_ms"] / 3.6e6 + 8) % 24).astype(np.int64)
    counts = np.zeros((n_windows, len(users)))
    np.add.at(counts, (window, user), 1)
    shown = np.bincount(item, minlength=len(items)) / n_windows
    activity_edges = _edges(counts[window, user], _N_LEVELS)
    popularity_edges = [edge for edge in _POPULARITY if edge < np.quantile(shown, 0.999)]
    duration = log["duration_s"].astype(float)
    duration_edges = [0.0, *_edges(duration[duration > 0], 20)]
    level = bin_of(shown, popularity_edges)
    item_duration = np.zeros(len(items))
    item_duration[item] = duration
    factors = {
        "scenario": scenario,
        "duration": bin_of(duration, duration_edges),
        "hour": hour // (24 // N_HOURS),
        "activity": bin_of(counts[window, user], activity_edges),
        "popularity": bin_of(shown[item], popularity_edges),
    }
    unseen = _unseen(shown * n_windows) / n_windows
    bar.update()
    click = log["click"].astype(float)
    rng = np.random.default_rng(seed)
    click_model = fit_logistic_model(click, factors, {}, user, item, rng)
    bar.update()
    model = LogModel(
        name=name,
        window_days=window_days,
        start_ms=int(log["time_ms"].min()),
        n_users=len(users),
        n_items=len(items) + len(unseen),
        scenarios=names,
        scenario_share=(np.bincount(scenario, minlength=n_scenarios) / len(log)).tolist(),
        scenario_concentration=_concentration(user, scenario, n_scenarios),
        item_scenarios=_shares(factors["popularity"], scenario, n_scenarios),
        item_concentration=_concentration(item, scenario, n_scenarios),
        hour_share=[
            (np.bincount(hour[scenario == s], minlength=24) / max((scenario == s).sum(), 1)).tolist() for s in range(n_scenarios)
        ],
        activity=np.quantile(counts.ravel(), np.linspace(0, 1, 401)).tolist(),
        activity_persistence=_persistence(counts),
        activity_edges=activity_edges,
        popularity=np.quantile(np.concatenate([unseen, shown]), np.linspace(0, 1, 801)).tolist(),
        popularity_edges=popularity_edges,
        popularity_churn=_churn(item, window),
        duration=[np.quantile(item_duration[level == v], _GRID).tolist() for v in range(level.max() + 1)],
        duration_edges=duration_edges,
        heads=heads_of(log),
        click=click_model,
        watch=[],
        watch_popularity=[],
        watch_spread_user=0.0,
        watch_spread_item=0.0,
        watch_click_user=0.0,
        watch_click_item=0.0,
        long_view=[],
        long_view_s=_long_view_bound(log),
        interactions={},
    )
    _fit_watch(model, log, factors, user, item)
    bar.update()
    _fit_long_view(model, log)
    bar.update()
    flags: dict[str, AnyArray] = {"click": click, "long_view": log["long_view"].astype(float)}
    for head in model.heads:
        model.interactions[head] = fit_logistic_model(log[head].astype(float), factors, flags, user, item, rng)
        flags = {**flags, head: log[head].astype(float)}
        bar.update()
    bar.close()
    return model


def fit_logistic_model(
    y: Floats, factors: dict[str, Ints], flags: dict[str, AnyArray], user: Ints, item: Ints, rng: np.random.Generator
) -> Logistic:
    """Logistic regression on factors and flags, then the spreads of user and item effects that give the covariances seen.

    The spreads are found by simulation on the log's own rows: a larger spread gives a larger covariance of two residuals of
    one user. Coefficients are enlarged by what averaging over the effects takes away.
    """
    model = _regress(y, factors, flags)
    fixed = expit(model.logit(factors, flags))
    wanted = _pair_covariance(y - fixed, user), _pair_covariance(y - fixed, item)
    z_user, z_item = rng.standard_normal(user.max() + 1)[user], rng.standard_normal(item.max() + 1)[item]
    u = rng.random(len(y))
    base = model.logit(factors, flags)
    spread = [0.0, 0.0]
    for _ in range(2):
        for which, group in enumerate((user, item)):
            low, high = 0.0, _SPREAD_HIGH
            for _ in range(9):
                middle = (low + high) / 2
                trial = [middle if i == which else s for i, s in enumerate(spread)]
                p = _with_effects(base, trial[0] * z_user + trial[1] * z_item, trial, y.mean())
                seen = _pair_covariance((u < p) - fixed, group)
                low, high = (middle, high) if seen < wanted[which] else (low, middle)
            spread[which] = (low + high) / 2 if wanted[which] > 0 else 0.0
    stretch = _stretch(spread, y.mean())
    shift = _mean_shift(stretch * base, _joint(spread), y.mean())
    levels = {name: [stretch * c for c in part] for name, part in model.levels.items()}
    fitted = Logistic(
        stretch * model.intercept + shift, levels, {n: stretch * c for n, c in model.flags.items()}, spread[0], spread[1]
    )
    _rake(fitted, y, factors, flags)
    return fitted


def _rake(model: Logistic, y: Floats, factors: dict[str, Ints], flags: dict[str, AnyArray]) -> None:
    """Move each factor's coefficients until its levels have the log's rates on average over the random effects."""
    yes_no = {name: (np.asarray(flag) > 0).astype(np.int64) for name, flag in flags.items()}
    for name, level in [*factors.items(), *yes_no.items(), *factors.items(), *yes_no.items()]:
        n, wanted = np.bincount(level) + 2.0, np.bincount(level, weights=y)
        p = _average(model, factors, flags)
        seen = np.bincount(level, weights=p)
        prior = 2.0 * seen / np.maximum(n - 2.0, 1.0)  # two rows' worth of what is there already
        rate, now = np.clip((wanted + prior) / n, 1e-6, 1 - 1e-6), np.clip((seen + prior) / n, 1e-6, 1 - 1e-6)
        move = np.clip(np.log(rate / (1 - rate)) - np.log(now / (1 - now)), -1, 1)
        if name in yes_no:
            model.intercept += float(move[0])
            model.flags[name] += float(move[-1] - move[0])
            continue
        model.levels[name] = (np.array(model.levels[name]) + move).tolist()


def _average(model: Logistic, factors: dict[str, Ints], flags: dict[str, AnyArray]) -> Floats:
    """The probability of each row, averaged over the random effects."""
    points, weights = np.polynomial.hermite_e.hermegauss(9)
    effects, weights = float(np.hypot(model.spread_user, model.spread_item)) * points, weights / weights.sum()
    base = model.logit(factors, flags)
    return sum((w * expit(base + x) for x, w in zip(effects, weights, strict=True)), np.zeros(len(base)))


def _regress(y: Floats, factors: dict[str, Ints], flags: dict[str, AnyArray]) -> Logistic:
    """Ridge logistic regression by Newton steps; rare levels shrink to the mean."""
    sizes = {name: int(level.max()) + 1 for name, level in factors.items()}
    blocks = [np.eye(sizes[name])[level] for name, level in factors.items()] + [
        np.asarray(flag, float)[:, None] for flag in flags.values()
    ]
    x = np.concatenate([np.ones((len(y), 1)), *blocks], axis=1)
    ridge = np.full(x.shape[1], 0.5)
    ridge[0] = 1e-6
    mean = y.mean()
    beta = np.zeros(x.shape[1])
    beta[0] = np.log(mean / (1 - mean))
    for _ in range(40):
        p = expit(x @ beta)
        gradient = x.T @ (y - p) - ridge * beta
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.clip(np.linalg.solve(hessian, gradient), -2, 2)
        beta += step
        if np.abs(step).max() < 1e-6:
            break
    levels, at = {}, 1
    for name, size in sizes.items():
        levels[name] = beta[at : at + size].tolist()
        at += size
    return Logistic(float(beta[0]), levels, dict(zip(flags, beta[at:].tolist(), strict=True)))


def _with_effects(base: Floats, effect: Floats, spread: list[float], rate: float) -> Floats:
    logit = _stretch(spread, rate) * base + effect
    p: Floats = expit(logit + _shift_to(logit, rate))
    return p


def _joint(spread: list[float]) -> float:
    return float(np.hypot(spread[0], spread[1]))


def _stretch(spread: list[float], rate: float) -> float:
    """By how much averaging over the effects flattens a slope near this rate: a lot for common behaviours, little for rare
    ones."""
    points, weights = np.polynomial.hermite_e.hermegauss(21)
    effect, weights = _joint(spread) * points, weights / weights.sum()
    at = _mean_shift(np.zeros(1), _joint(spread), rate)
    p = expit(at + effect)
    mean = float(weights @ p)
    return mean * (1 - mean) / max(float(weights @ (p * (1 - p))), 1e-12)


def _mean_shift(base: Floats, spread: float, rate: float) -> float:
    """The shift by which the rate is right on average over the random effects, not for one draw of them."""
    points, weights = np.polynomial.hermite_e.hermegauss(9)
    weights = weights / weights.sum()
    shift = float(np.log(rate / (1 - rate)))
    low, high = shift - 25 - np.abs(base).max(), shift + 25 + np.abs(base).max()
    for _ in range(28):
        shift = (low + high) / 2
        mean = sum(w * float(expit(base + shift + spread * x).mean()) for x, w in zip(points, weights, strict=True))
        low, high = (shift, high) if mean < rate else (low, shift)
    return shift


def _shift_to(logit: Floats, rate: float) -> float:
    shift = 0.0
    for _ in range(30):
        p = expit(logit + shift)
        step = (rate - p.mean()) / max((p * (1 - p)).mean(), 1e-9)
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-4:
            break
    return shift


def _pair_covariance(residual: Floats, group: Ints) -> float:
    """The mean product of two residuals of one group, over all such pairs."""
    total, square = np.bincount(group, weights=residual), np.bincount(group, weights=residual**2)
    n = np.bincount(group)
    pairs = float((n * (n - 1.0)).sum())
    return float((total**2 - square).sum() / pairs) if pairs else 0.0


def _expected_effect(model: Logistic, factors: dict[str, Ints], positive: bool) -> Floats:
    """The mean of the standardised random effect of each row, given that it is positive (or not)."""
    points, weights = np.polynomial.hermite_e.hermegauss(9)
    total = float(np.hypot(model.spread_user, model.spread_item))
    base = model.logit(factors)
    top, bottom = np.zeros(len(base)), np.zeros(len(base))
    for x, w in zip(points, weights, strict=True):
        p = w * expit((base + total * x) * (1 if positive else -1))
        top, bottom = top + x * p, bottom + p
    return top / np.maximum(bottom, 1e-300)


def _cross_correlation(a: Floats, b: Floats, known: AnyArray, group: Ints) -> float:
    """The correlation of two group effects from residuals `a` of all rows and `b` of the `known` ones, over pairs of different
    rows."""
    size = int(group.max()) + 1
    of_a, of_b = np.bincount(group, weights=a), np.bincount(group[known], weights=b[known], minlength=size)
    n_a, n_b = np.bincount(group), np.bincount(group[known], minlength=size)
    pairs = float(n_a @ n_b - n_b.sum())
    within = _pair_covariance(a, group) * _pair_covariance(b[known], group[known])
    if pairs <= 0 or within <= 0:
        return 0.0
    return float(np.clip((of_a @ of_b - a[known] @ b[known]) / pairs / np.sqrt(within), -0.95, 0.95))


def _fit_watch(model: LogModel, log: LoggedDataset, factors: dict[str, Ints], user: Ints, item: Ints) -> None:
    click, watch = log["click"] > 0, log["watch_s"].astype(float)
    n_bins, n_scenarios = len(model.duration_edges) + 1, len(model.scenarios)
    cell = model.watch_cell(click, factors["scenario"], factors["duration"])
    for index in range(2 * n_scenarios * n_bins):
        rows = cell == index
        if rows.sum() < 30:  # too few: borrow the scenario's, then everybody's
            rows = (click == (index >= n_scenarios * n_bins)) & (factors["scenario"] == index // n_bins % n_scenarios)
        if rows.sum() < 30:
            rows = click == (index >= n_scenarios * n_bins)
        model.watch.append(np.quantile(watch[rows], _GRID).tolist())
    size = np.bincount(cell)[cell]
    z = ndtri((segment_ranks(cell, watch) - 0.5) / size)
    level = factors["popularity"]
    both = click * (level.max() + 1) + level
    n_both = np.maximum(np.bincount(both, minlength=2 * (level.max() + 1)), 1)
    shift = np.bincount(both, weights=z, minlength=len(n_both)) / n_both
    model.watch_popularity = shift.reshape(2, -1).tolist()
    residual = click - _average(model.click, factors, {})
    z = z - shift[both]
    model.watch_click_user = _cross_correlation(residual, z, click, user)
    model.watch_click_item = _cross_correlation(residual, z, click, item)
    z, user, item = z[click], user[click], item[click]
    in_user, in_item = max(_pair_covariance(z, user), 0.0), max(_pair_covariance(z, item), 0.0)
    model.watch_spread_user, model.watch_spread_item = float(np.sqrt(in_user)), float(np.sqrt(in_item))
    for chosen in (False, True):  # those who click have higher effects on average; the shifts hold for them, so take that out
        rows = click == chosen
        effect = _expected_effect(model.click, {name: part[rows] for name, part in factors.items()}, chosen)
        total = max(float(np.hypot(model.click.spread_user, model.click.spread_item)), 1e-9)
        parts = model.watch_spread_user * model.watch_click_user * model.click.spread_user
        parts += model.watch_spread_item * model.watch_click_item * model.click.spread_item
        mean = np.bincount(level[rows], weights=effect * parts / total, minlength=len(model.watch_popularity[0]))
        here = np.maximum(np.bincount(level[rows], minlength=len(mean)), 1)
        model.watch_popularity[int(chosen)] = (np.array(model.watch_popularity[int(chosen)]) - mean / here).tolist()


def _fit_long_view(model: LogModel, log: LoggedDataset) -> None:
    bins = ratio_bin(log["watch_s"], log["duration_s"], model.long_view_s)
    for click in (False, True):
        rows = (log["click"] > 0) == click
        n = np.bincount(bins[rows], minlength=len(RATIO_EDGES) + 1)
        k = np.bincount(bins[rows], weights=log["long_view"][rows].astype(float), minlength=len(RATIO_EDGES) + 1)
        model.long_view.append(((k + 1e-3) / (n + 2e-3)).tolist())


def _long_view_bound(log: LoggedDataset) -> float:
    """The bound in seconds that best tells long views by watch time >= min(duration, bound)."""
    watch, duration, known = log["watch_s"], log["duration_s"], log["duration_s"] > 0
    agree = [float(np.mean((watch >= np.minimum(duration, b))[known] == (log["long_view"] > 0)[known])) for b in range(3, 61)]
    return float(range(3, 61)[int(np.argmax(agree))])


def _scenarios(log: LoggedDataset) -> tuple[list[str], Ints]:
    """Scenario names, rare ones together as `other`, and each row's index."""
    names, index = np.unique(log["scenario"].astype(str), return_inverse=True)
    share = np.bincount(index) / len(log)
    kept = [str(n) for n, s in zip(names, share, strict=True) if s >= _RARE_SCENARIO]
    kept = kept if len(kept) == len(names) else [*kept, "other"]
    place = np.array([kept.index(str(n)) if str(n) in kept else len(kept) - 1 for n in names])
    return kept, place[index].astype(np.int64)


def _edges(values: Floats, n: int) -> list[float]:
    return sorted({float(v) for v in np.quantile(values, np.arange(1, n) / n)})


def _unseen(counts: Floats) -> Floats:
    """Expected impressions of items that exist but were not shown: Chao's number of them, the Good-Turing mass between them."""
    once, twice = float((counts == 1).sum()), float(max((counts == 2).sum(), 1))
    n = int(once**2 / (2 * twice))
    return np.full(n, once / max(n, 1))


def _churn(item: Ints, window: Ints) -> float:
    """How much an item's popularity moves between windows beyond what Poisson counts do by themselves."""
    counts = np.zeros((int(window.max()) + 1, int(item.max()) + 1))
    np.add.at(counts, (window, item), 1)
    if len(counts) < 2:
        return 0.0
    a, b = counts[-2], counts[-1] * counts[-2].sum() / counts[-1].sum()
    weight = 1 / (a + b + 1)  # heavy items must not decide alone
    excess = float(weight @ ((a - b) ** 2 - a - b)) / max(2 * float(weight @ (a * b)), 1e-9)
    return float(np.sqrt(np.log1p(np.clip(excess, 0.0, 10.0))))


def _shares(level: Ints, scenario: Ints, n: int) -> list[list[float]]:
    counts = np.ones((level.max() + 1, n)) * np.bincount(scenario, minlength=n) / len(scenario)
    np.add.at(counts, (level, scenario), 1)
    shares: list[list[float]] = (counts / counts.sum(1, keepdims=True)).tolist()
    return shares


def _concentration(user: Ints, scenario: Ints, n: int) -> float:
    """The Dirichlet concentration by which two impressions of one user share a scenario as often as they do."""
    counts = np.zeros((user.max() + 1, n))
    np.add.at(counts, (user, scenario), 1)
    total = counts.sum(1)
    pairs = (total * (total - 1)).sum()
    same = (counts * (counts - 1)).sum() / max(pairs, 1)
    chance = float(((counts.sum(0) / total.sum()) ** 2).sum())
    within = (same - chance) / (1 - chance) if chance < 1 else 0.0
    return float(np.clip(1 / within - 1, 0.01, 1e4)) if within > 0 else 1e4


def _persistence(counts: Floats) -> float:
    """The correlation of a user's normal scores in two windows; 1 with one window."""
    if len(counts) < 2:
        return 1.0
    scores = [ndtri((segment_ranks(np.zeros(counts.shape[1], np.int64), row) - 0.5) / counts.shape[1]) for row in counts[-2:]]
    return float(np.clip(np.corrcoef(scores[0], scores[1])[0, 1], 0.0, 1.0))
