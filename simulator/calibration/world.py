"""From a fitted log to a world: the settings whose sessions have the log's rates, spreads and watch times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.special import ndtri

from core.arrays import Floats
from core.logs import LoggedDataset
from simulator.behaviour import CLICK, WATCH, sigmoid
from simulator.calibration.model import LogModel
from simulator.calibration.sample import sample
from simulator.session import Sessions
from simulator.settings import from_values, load_settings
from simulator.streams import key
from simulator.world import World

_UNWANTED = ("hate",)
_N_WORLDS = 6  # a world's few popular items move its rates; the settings are to be right on average over worlds


def preset(model: LogModel, log: LoggedDataset | None = None, *, seed: int = 0) -> dict[str, Any]:
    """A preset's values (YAML) by which `World.make` has the log's click rate, chain, spreads and watch times.

    What a log of impressions cannot tell (satisfaction, leaving, coming back, ranker error) stays as in `default`.

    Args:
        log: The rows that the model was fitted on; a sample of the model when they are gone.
    """
    log = sample(model, seed=seed, scale=3.0) if log is None else log
    opened = log.take((log["click"] > 0) & (log["duration_s"] > 0))
    heads = {}
    for name in model.heads:
        part = model.interactions[name]
        spread = {"spread_user": round(min(part.spread_user, 1.5), 2), "spread_item": round(min(part.spread_item, 1.5), 2)}
        heads[name] = {"rate": float(f"{max(opened[name].mean(), 1e-5):.4g}"), **spread}
        if name in _UNWANTED:
            heads[name] |= {"taste": -0.4, "quality": -0.4, "clickbait": 0.5, "enjoy": -0.5}
    known = log["duration_s"][log["duration_s"] > 0]
    wanted = {name: (-0.1 if name in _UNWANTED else 0.4) for name in model.heads}
    values = {
        "base": "default",
        "n_users": min(model.n_users, 20_000),
        "n_items": min(model.n_items, 10_000),
        "click_rate": round(float(log["click"].mean()), 4),
        "click_spread_user": round(model.click.spread_user, 3),
        "click_spread_item": round(model.click.spread_item, 3),
        "examine_power": 0.0,
        "duration_median_s": round(float(np.median(known)), 1),
        "duration_spread": round(float(np.log(known).std()), 3),
        "long_view_s": model.long_view_s,
        "heads": {**dict.fromkeys(("like", "follow", "comment", "share", "hate", "purchase")), **heads},
        "ranker": {name: {"auc": 0.7 if name in _UNWANTED else 0.78} for name in heads} | dict.fromkeys(_others(heads)),
        "need": {"click": 0.1, "watch_s": 0.4, **wanted},
        "cohorts": {
            "viewers": {"watch_s": 1.0},
            "finishers": {"complete": 1.0},
            "social": dict.fromkeys(list(heads)[:2], 0.5),
        },
        "reward": {"click": 0.3, "watch_s": 0.004, **{name: (-1.0 if name in _UNWANTED else 0.5) for name in heads}},
        "hand_set": {"click": 1.0, "watch_s": 0.3, **{name: (-0.1 if name in _UNWANTED else 0.2) for name in heads}},
    }
    return {**values, **_watch(values, opened)}


def _others(heads: dict[str, Any]) -> list[str]:
    return [name for name in ("like", "follow", "comment", "share", "hate", "purchase") if name not in heads]


def _watch(values: Mapping[str, Any], opened: LoggedDataset) -> dict[str, float]:
    """The four settings of watch time by which clicked items, on users and items of a few worlds, have the log's mean seconds
    (of shorter and of longer items), long views and completions, by least squares of the relative errors."""
    settings = from_values({k: v for k, v in values.items() if k != "base"}, load_settings("default", n_users=1_500))
    share, rest, length = np.concatenate([_offered(World(settings, seed)) for seed in range(_N_WORLDS)], axis=1)
    duration = settings.duration_median_s * np.exp(length)
    noises = ndtri((np.arange(21) + 0.5) / 21)
    middle = float(np.median(opened["duration_s"]))

    def seen(watch_s: Floats, long_view: Floats, duration_s: Floats, weight: Floats) -> Floats:
        short, everything = duration_s <= middle, duration_s > 0
        parts = [(watch_s, short), (watch_s, ~short), (long_view, everything), (watch_s >= 0.95 * duration_s, everything)]
        return np.array([float(np.average(value[rows], weights=weight[rows])) for value, rows in parts])

    def made(point: Floats) -> Floats:
        median, slope, noise, finish = np.exp(point[0]), point[1], np.exp(point[2]), point[3]
        log_s = rest + np.log(median) + slope * length + noise * noises[:, None]  # (21, rows)
        watch = np.minimum(np.exp(log_s), 3 * duration)
        watch = np.where(log_s >= np.log(0.95 * duration) - finish, np.maximum(watch, duration), watch)
        long_view = watch >= np.minimum(0.95 * duration, settings.long_view_s)
        found: Floats = np.array([seen(w, v, duration, share) for w, v in zip(watch, long_view, strict=True)]).mean(0)
        return found

    def off(point: Floats) -> Floats:
        relative: Floats = made(point) / wanted - 1
        return relative

    wanted = seen(opened["watch_s"].astype(float), opened["long_view"].astype(float), opened["duration_s"], np.ones(len(opened)))
    start, low, high = [np.log(20.0), 0.3, -0.3, 0.5], [-1.0, -0.5, -2.0, 0.0], [8.0, 1.5, 1.0, 3.0]
    found = least_squares(off, start, bounds=(low, high), diff_step=np.full(4, 0.02), xtol=1e-4).x
    named = {"watch_median_s": np.exp(found[0]), "watch_duration": found[1], "watch_noise": np.exp(found[2])}
    return {name: round(float(value), 3) for name, value in (named | {"watch_finish": found[3]}).items()}


def _offered(world: World, n: int = 400) -> Floats:
    """Of some candidates of first pages: click probability, what moves log watch time beside median and length, log length."""
    s, sessions, slots, zero = world.settings, Sessions(world, n), np.arange(n), np.zeros(n, np.int64)
    sessions.begin(slots, key(0, slots), slots, zero, zero, None, zero)
    sessions.offer()
    items, truth = sessions.items[:, ::10].ravel(), sessions.truth[:, :, ::10].reshape(len(sessions.truth), -1).astype(float)
    length = np.log(world.catalogue.duration_s[items] / s.duration_median_s)
    return np.stack([sigmoid(truth[CLICK]), truth[WATCH] - np.log(s.watch_median_s) - s.watch_duration * length, length])
