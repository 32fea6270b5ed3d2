"""Simulated beside logged: rates, the conditional chain, long views by duration, distributions, and a classifier that tries to
tell.

A rate passes within 10 % of the logged one or within 2 standard errors of the difference, which count users and items rather than
rows (impressions of one item are alike); a distribution at a Kolmogorov-Smirnov distance
of .05; the classifier at an AUC of .65.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Ints, auc
from core.logs import LoggedDataset

RELATIVE_HIGH, ERRORS_HIGH, KS_HIGH, AUC_HIGH = 0.10, 2.0, 0.05, 0.65


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison; `distance` is relative for rates, else absolute; `errors` in standard errors of the difference. What is
    not `judged` is shown beside the others and always passes."""

    kind: str
    name: str
    logged: float
    simulated: float
    distance: float
    errors: float
    passed: bool
    n: int = 0
    judged: bool = True

    @property
    def verdict(self) -> str:
        """`ok`, `off`, or `shown` where nothing is judged."""
        return "shown" if not self.judged else "ok" if self.passed else "off"

    def to_json(self) -> dict[str, Any]:
        """Plain values, NaN as null."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def compare(logged: LoggedDataset, simulated: LoggedDataset, heads: list[str], *, seed: int = 0) -> list[Check]:
    """All checks, in the order of the report."""
    checks = []
    for given, tasks in _chain(heads):
        for task in tasks:
            checks.append(_rate(f"{task} | {given}" if given else task, logged, simulated, task, given))
    edges = np.quantile(logged["duration_s"], np.arange(1, 10) / 10)
    real_bin, fake_bin = (np.searchsorted(edges, log["duration_s"], side="left") for log in (logged, simulated))
    for decile in range(10):
        masks = real_bin == decile, fake_bin == decile
        rows = (logged, masks[0]), (simulated, masks[1])
        checks.append(_two_rates("long view by duration", f"decile {decile + 1}", "long_view", *rows))
    for unit in ("user_id", "item_id"):
        for task in ("click", "long_view", *heads[:1]):
            a, b = _unit_rates(logged, unit, task), _unit_rates(simulated, unit, task)
            checks.append(_distance("rate distribution", f"{task} per {unit[:-3]}", a, b))
    for name in ("watch_s", "duration_s"):
        checks.append(_distance("distribution", name, logged[name].astype(float), simulated[name].astype(float), judged=False))
    for unit in ("user_id", "item_id"):
        p, q = (gini(np.unique(log[unit], return_counts=True)[1]) for log in (logged, simulated))
        checks.append(Check("exposure Gini", unit[:-3], p, q, abs(p - q), float("nan"), True, judged=False))
    checks += _correlations(logged, simulated, heads)
    checks += _scenario_rates(logged, simulated)
    found = classifier_auc(logged, simulated, heads, seed=seed)
    checks.append(Check("classifier", "AUC, real against simulated", 0.5, found, found - 0.5, float("nan"), found <= AUC_HIGH))
    return checks


def classifier_auc(logged: LoggedDataset, simulated: LoggedDataset, heads: list[str], *, seed: int = 0) -> float:
    """Held-out AUC of gradient-boosted trees that tell real impressions from simulated ones; no user and no item is in both
    halves, or the trees would know items by heart.

    It sees everything an impression shows: scenario, hour, duration, watch time, their ratio, every behaviour, and how often
    the user and the item occur.
    """
    import lightgbm

    names = sorted({*logged["scenario"].astype(str)} & {*simulated["scenario"].astype(str)})
    rng = np.random.default_rng(seed)
    x, y, held = [], [], []
    for real, log in ((1, logged), (0, simulated)):
        x.append(_features(log, heads, names))
        y.append(np.full(len(log), real))
        sides = [np.unique(log[unit], return_inverse=True)[1] for unit in ("user_id", "item_id")]
        half = [(rng.random(side.max() + 1) < 0.5)[side].astype(int) for side in sides]
        held.append(np.where(half[0] == half[1], half[0], -1))  # mixed rows are in neither half
    rows, label, half_of = np.concatenate(x), np.concatenate(y), np.concatenate(held)
    train, test = half_of == 0, half_of == 1
    weight = np.where(label == 1, 1 / (label == 1).sum(), 1 / (label == 0).sum()) * len(label) / 2
    options = {
        "objective": "binary",
        "num_leaves": 31,
        "learning_rate": 0.1,
        "seed": seed,
        "verbose": -1,
        "num_threads": 1,
        "deterministic": True,
    }
    booster = lightgbm.train(options, lightgbm.Dataset(rows[train], label[train], weight=weight[train]), num_boost_round=100)
    return auc(label[test] == 1, np.asarray(booster.predict(rows[test]), float))


def gini(counts: AnyArray) -> float:
    """0 when all are alike, towards 1 when one has everything.

    >>> gini(np.array([1, 1, 1])), round(gini(np.array([0, 0, 3])), 3)
    (0.0, 0.667)
    """
    ordered = np.sort(np.asarray(counts, float))
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def ks_distance(a: Floats, b: Floats) -> float:
    """The largest gap between two distribution functions.

    >>> ks_distance(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    0.5
    """
    grid = np.unique(np.concatenate([a, b]))
    gap = np.searchsorted(np.sort(a), grid, side="right") / len(a) - np.searchsorted(np.sort(b), grid, side="right") / len(b)
    return float(np.abs(gap).max())


def _chain(heads: list[str]) -> list[tuple[str, list[str]]]:
    """Condition and the behaviours judged under it; the empty condition is every impression."""
    return [
        ("", ["click", "long_view", *heads]),
        ("click", ["long_view", *heads]),
        ("long_view", [*heads]),
        *[(h, heads[i + 1 :]) for i, h in enumerate(heads[:2])],
    ]


def _rate(name: str, logged: LoggedDataset, simulated: LoggedDataset, task: str, given: str) -> Check:
    masks = [np.ones(len(log), bool) if not given else log[given] > 0 for log in (logged, simulated)]
    return _two_rates("conditional rate" if given else "rate", name, task, (logged, masks[0]), (simulated, masks[1]))


def _two_rates(kind: str, name: str, task: str, real: tuple[LoggedDataset, Bools], fake: tuple[LoggedDataset, Bools]) -> Check:
    a, b = (log[task][mask] for log, mask in (real, fake))
    if not len(a) or not len(b):
        return Check(kind, name, float("nan"), float("nan"), float("nan"), float("nan"), False, len(a))
    p, q = float(np.mean(a)), float(np.mean(b))
    pooled = (float(np.sum(a)) + float(np.sum(b))) / (len(a) + len(b))
    least = pooled * (1 - pooled) * (1 / len(a) + 1 / len(b))
    error = float(np.sqrt(max(_variance(task, *real) + _variance(task, *fake), least)))
    relative = abs(q - p) / p if p > 0 else float("nan")
    errors = abs(q - p) / error if error > 0 else 0.0
    return Check(kind, name, p, q, relative, errors, relative <= RELATIVE_HIGH or errors <= ERRORS_HIGH, len(a))


def _variance(task: str, log: LoggedDataset, mask: Bools) -> float:
    """The variance of a rate, clustered by user and by item (Cameron, Gelbach and Miller 2011), at least the binomial one."""
    y = log[task][mask].astype(float)
    residual = y - y.mean()
    total = -float(residual @ residual)
    for unit in ("user_id", "item_id"):
        _, index = np.unique(log[unit][mask], return_inverse=True)
        total += float((np.bincount(index, weights=residual) ** 2).sum())
    return max(total, float(residual @ residual)) / len(y) ** 2


def _unit_rates(log: LoggedDataset, unit: str, task: str) -> Floats:
    _, index = np.unique(log[unit], return_inverse=True)
    rates: Floats = np.bincount(index, weights=log[task].astype(float)) / np.bincount(index)
    return rates


def _distance(kind: str, name: str, a: Floats, b: Floats, *, judged: bool = True) -> Check:
    distance = ks_distance(a, b)
    passed = distance <= KS_HIGH or not judged
    return Check(kind, name, float(a.mean()), float(b.mean()), distance, float("nan"), passed, len(a), judged)


def _correlations(logged: LoggedDataset, simulated: LoggedDataset, heads: list[str]) -> list[Check]:
    pairs = [("click", "watch_s"), ("long_view", "watch_s"), ("duration_s", "watch_s"), *[("click", h) for h in heads[:3]]]
    found = []
    for a, b in pairs:
        real, fake = (float(np.corrcoef(log[a].astype(float), log[b].astype(float))[0, 1]) for log in (logged, simulated))
        found.append(Check("correlation", f"{a}, {b}", real, fake, abs(real - fake), float("nan"), True, judged=False))
    return found


def _scenario_rates(logged: LoggedDataset, simulated: LoggedDataset) -> list[Check]:
    masks = [
        (name, logged["scenario"] == name, simulated["scenario"] == name)
        for name in sorted({*simulated["scenario"]} & {*logged["scenario"]})
    ]
    return [_two_rates("CTR by scenario", name, "click", (logged, a), (simulated, b)) for name, a, b in masks]


def _features(log: LoggedDataset, heads: list[str], scenarios: list[str]) -> Floats:
    names = log["scenario"].astype(str)
    unique, index = np.unique(names, return_inverse=True)
    place = np.array([scenarios.index(n) if n in scenarios else -1 for n in unique])[index]
    hour = (log["time_ms"] / 3.6e6 + 8) % 24 // 1
    ratio = log["watch_s"] / np.maximum(log["duration_s"], 1.0)
    seen = [_occurrences(log["user_id"]), _occurrences(log["item_id"])]
    return np.column_stack(
        [place, hour, log["duration_s"], log["watch_s"], ratio, log["click"], log["long_view"], *(log[h] for h in heads), *seen]
    ).astype(float)


def _occurrences(ids: AnyArray) -> Ints:
    _, index, count = np.unique(ids, return_inverse=True, return_counts=True)
    found: Ints = count[index].astype(np.int64)
    return found


def tally(checks: list[Check]) -> tuple[int, int]:
    """How many checks are judged, and how many of those pass.

    >>> tally([Check("rate", "click", 0.4, 0.5, 0.25, 9.0, False), Check("correlation", "a, b", 0, 1, 1, 0, True, judged=False)])
    (1, 0)
    """
    judged = [check.passed for check in checks if check.judged]
    return len(judged), sum(judged)


def worst(checks: list[Check]) -> float:
    """The largest relative error among the rates that are judged, leaving out those within 2 standard errors."""
    judged: Bools = np.array(
        [c.kind in ("rate", "conditional rate", "long view by duration") and not c.errors <= ERRORS_HIGH for c in checks]
    )
    return float(max((c.distance for c, use in zip(checks, judged, strict=True) if use), default=0.0))
