"""Draw impressions from a `LogModel`: the same columns as the log it was fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit, ndtr, ndtri

from core.arrays import AnyArray, Floats, Ints
from core.errors import ConfigError
from core.logs import LoggedDataset
from simulator.calibration.model import N_HOURS, N_QUANTILES, Logistic, LogModel, bin_of, ratio_bin

_DAY_MS = 86_400_000


def sample(model: LogModel, *, seed: int, n_days: int | None = None, first_day: int = 0, scale: float = 1.0) -> LoggedDataset:
    """Impressions of `n_days` (one window by default), whole windows at a time.

    Args:
        first_day: Days after the log's first one.
        scale: Users and items in proportion to the log's: more of both gives less noise and the same distributions.
    """
    days = model.window_days if n_days is None else n_days
    if days < 1 or scale <= 0:
        raise ConfigError(f"n_days {days} must be at least 1 and scale {scale} positive")
    rng = np.random.default_rng([seed, 7])
    n_users = max(round(scale * model.n_users), 1)
    model = replace(model, n_items=max(round(scale * model.n_items), 1))
    activity = rng.standard_normal(n_users)
    edges = np.cumsum(rng.dirichlet(_alpha(model.scenario_concentration, model.scenario_share), n_users), 1)
    weight, duration_of, level = _items(model, rng)
    mix = _mix(model, level, rng)
    effects = _effects(model, n_users, rng)
    parts = []
    for window in range(-(-days // model.window_days)):
        persist = model.activity_persistence
        z = np.sqrt(persist) * activity + np.sqrt(1 - persist) * rng.standard_normal(n_users)
        grid = np.linspace(0, 1, len(model.activity))
        count = np.floor(np.interp(ndtr(z), grid, model.activity) + rng.random(n_users)).astype(np.int64)
        count = np.where(np.interp(ndtr(z), grid, model.activity) == 0, 0, count)
        user = np.repeat(np.arange(n_users), count)
        day = rng.integers(0, model.window_days, len(user)) + window * model.window_days
        keep = day < days
        user, day = user[keep], day[keep]
        moved = weight * np.exp(model.popularity_churn * _scores(model.n_items, rng))
        cumulative = np.cumsum((moved[:, None] * mix).T, axis=1)  # (S, I)
        scenario = np.minimum((edges[user] < rng.random(len(user))[:, None]).sum(1), len(model.scenarios) - 1)
        item = np.zeros(len(user), np.int64)
        for place, shelf in enumerate(cumulative):
            here = np.flatnonzero(scenario == place)
            item[here] = np.minimum(np.searchsorted(shelf, rng.random(len(here)) * shelf[-1]), model.n_items - 1)
        parts.append(_impressions(model, user, item, scenario, day + first_day, count[user], duration_of, level, effects, rng))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["time_ms"], kind="stable")
    return LoggedDataset({name: column[order] for name, column in columns.items()})


def _impressions(
    model: LogModel,
    user: Ints,
    item: Ints,
    scenario: Ints,
    day: Ints,
    count: Ints,
    duration_of: Floats,
    level: Ints,
    effects: dict[str, tuple[Floats, Floats]],
    rng: np.random.Generator,
) -> dict[str, AnyArray]:
    n = len(user)
    hours = np.cumsum(np.array(model.hour_share), 1)[scenario]
    hour = np.minimum((hours < rng.random(n)[:, None]).sum(1), 23)
    duration = duration_of[item]
    factors = {
        "scenario": scenario,
        "duration": bin_of(duration, model.duration_edges),
        "hour": hour // (24 // N_HOURS),
        "activity": bin_of(count, model.activity_edges),
        "popularity": level[item],
    }

    def draw(name: str, part: Logistic, flags: dict[str, AnyArray]) -> Floats:
        z_user, z_item = effects[name]
        logit = part.logit(factors, flags) + part.spread_user * z_user[user] + part.spread_item * z_item[item]
        return (rng.random(n) < expit(logit)).astype(float)

    click = draw("click", model.click, {})
    z_user, z_item = (
        _blend(*pair)
        for pair in zip((model.watch_click_user, model.watch_click_item), effects["click"], effects["watch"], strict=True)
    )
    own = max(1 - model.watch_spread_user**2 - model.watch_spread_item**2, 0.0)
    shift = np.array(model.watch_popularity)
    z = shift[click.astype(np.int64), np.minimum(level[item], shift.shape[1] - 1)]
    z += model.watch_spread_user * z_user[user] + model.watch_spread_item * z_item[item] + np.sqrt(own) * rng.standard_normal(n)
    watch = _quantile(np.array(model.watch)[model.watch_cell(click > 0, scenario, factors["duration"])], ndtr(z))
    table = np.array(model.long_view)
    p_long = table[click.astype(np.int64), ratio_bin(watch, duration, model.long_view_s)]
    long_view = (rng.random(n) < p_long).astype(float)
    flags: dict[str, AnyArray] = {"click": click, "long_view": long_view}
    for head in model.heads:
        flags[head] = draw(head, model.interactions[head], flags)
    midnight = (model.start_ms + 8 * 3_600_000) // _DAY_MS * _DAY_MS - 8 * 3_600_000
    time_ms = midnight + day * _DAY_MS + hour * 3_600_000 + rng.integers(0, 3_600_000, n)
    names = np.array(model.scenarios, object)[scenario]
    ids = {"user_id": user, "item_id": item, "scenario": names, "time_ms": time_ms}
    return {**ids, "duration_s": duration, "watch_s": np.round(watch, 3), **flags}


def _quantile(table: Floats, u: Floats) -> Floats:
    """Interpolate each row of quantiles `[n, 101]` at `u` `[n]`."""
    at = u * (N_QUANTILES - 1)
    low = np.minimum(at.astype(np.int64), N_QUANTILES - 2)
    rows = np.arange(len(u))
    left, right = table[rows, low], table[rows, low + 1]
    value: Floats = left + (right - left) * (at - low)
    return value


def _items(model: LogModel, rng: np.random.Generator) -> tuple[Floats, Floats, Ints]:
    """Weight, duration and popularity level of every item."""
    u = (np.arange(model.n_items) + 0.5) / model.n_items
    weight = np.interp(u, np.linspace(0, 1, len(model.popularity)), model.popularity)
    level = np.minimum(bin_of(weight, model.popularity_edges), len(model.duration) - 1)
    table = np.array(model.duration)[level]
    within = np.empty(model.n_items)  # spread evenly over each level's quantiles, in random order
    for value in np.unique(level):
        rows = np.flatnonzero(level == value)
        within[rows] = rng.permutation((np.arange(len(rows)) + 0.5) / len(rows))
    return weight, np.round(_quantile(table, within), 3), level


def _mix(model: LogModel, level: Ints, rng: np.random.Generator) -> Floats:
    """The scenarios in which each item is shown, a Dirichlet draw a row, `[n_items, n_scenarios]`."""
    gammas = rng.standard_gamma(
        _alpha(model.item_concentration, model.item_scenarios)[np.minimum(level, len(model.item_scenarios) - 1)]
    )
    gammas = np.maximum(gammas, 1e-300)
    mix: Floats = gammas / gammas.sum(1, keepdims=True)
    return mix


def _alpha(concentration: float, share: list[float] | list[list[float]]) -> Floats:
    alpha: Floats = np.maximum(concentration * np.array(share), 1e-3)
    return alpha


def _effects(model: LogModel, n_users: int, rng: np.random.Generator) -> dict[str, tuple[Floats, Floats]]:
    found = {}
    for name in ("click", "watch", *model.heads):
        found[name] = _scores(n_users, rng), _balanced(model.n_items, rng)
    return found


def _blend(correlation: float, a: Floats, b: Floats) -> Floats:
    scores: Floats = correlation * a + np.sqrt(1 - correlation**2) * b
    return scores


def _scores(n: int, rng: np.random.Generator) -> Floats:
    """The `n` normal quantiles in random order: less noise in the tails than independent draws."""
    scores: Floats = rng.permutation(ndtri((np.arange(n) + 0.5) / n))
    return scores


def _balanced(n: int, rng: np.random.Generator, block: int = 20) -> Floats:
    """Normal numbers whose every 20 neighbours cover all quantiles: items lie in order of popularity, and a few have most
    impressions, whose luck must not move the rates."""
    order = np.argsort(np.arange(n) // block + rng.random(n), kind="stable")
    u = np.empty(n)
    u[order] = ((np.arange(n) % block) + rng.random(n)) / block
    scores: Floats = ndtri(np.clip(u[::-1], 1e-6, 1 - 1e-6))
    return scores  # the heaviest items first: an incomplete block is of the lightest
