"""From a fitted log to a world: the settings whose sessions have the log's rates, spreads and watch times."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.logs import LoggedDataset
from simulator.calibration.model import LogModel
from simulator.calibration.sample import sample

_UNWANTED = ("hate",)


def preset(model: LogModel, *, seed: int = 0) -> dict[str, Any]:
    """A preset's values (YAML) by which `World.make` has the log's click rate, chain, spreads and watch times.

    What a log of impressions cannot tell (satisfaction, leaving, coming back, ranker error) stays as in `default`.
    """
    log = sample(model, seed=seed)
    opened = log.take(log["click"] > 0)
    slope, middle, noise = _watch(opened)
    heads = {}
    for name in model.heads:
        part = model.interactions[name]
        spread = {"spread_user": round(min(part.spread_user, 1.5), 2), "spread_item": round(min(part.spread_item, 1.5), 2)}
        heads[name] = {"rate": float(f"{max(opened[name].mean(), 1e-5):.4g}"), **spread}
        if name in _UNWANTED:
            heads[name] |= {"taste": -0.4, "quality": -0.4, "clickbait": 0.5, "enjoy": -0.5}
    known = log["duration_s"][log["duration_s"] > 0]
    wanted = {name: (-0.1 if name in _UNWANTED else 0.4) for name in model.heads}
    return {
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
        "watch_median_s": round(middle, 2),
        "watch_duration": round(slope, 3),
        "watch_noise": round(noise, 3),
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


def _others(heads: dict[str, Any]) -> list[str]:
    return [name for name in ("like", "follow", "comment", "share", "hate", "purchase") if name not in heads]


def _watch(opened: LoggedDataset) -> tuple[float, float, float]:
    """Slope of log watch time on log duration, median seconds at the median duration, and the noise around it."""
    known = (opened["duration_s"] > 0) & (opened["watch_s"] > 0)
    x, y = np.log(opened["duration_s"][known]), np.log(opened["watch_s"][known])
    slope = float(np.cov(x, y)[0, 1] / x.var())
    at_middle = float(y.mean() + slope * (np.median(x) - x.mean()))
    return slope, float(np.exp(at_middle)), float((y - y.mean() - slope * (x - x.mean())).std())
