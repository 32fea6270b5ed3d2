"""Worlds whose truth is known, for judging architectures by what they were invented for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.arrays import AnyArray, Floats
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec

ALPHA = (0.5, 1.0, 1.5, 2.0)  # frequencies and phases of the sines, the same for both tasks
BETA = (0.3, 1.1, 2.0, 2.9)


@dataclass(frozen=True)
class Truth:
    """A log, how to read it, and by column what is true of each row."""

    log: LoggedDataset
    spec: FeatureSpec
    truth: dict[str, Floats]

    def rows(self, start: int, stop: int) -> LoggedDataset:
        """Some of the rows."""
        return self.log.take(np.arange(start, stop))


def correlated(n: int, p: float, rng: np.random.Generator, *, d: int = 100, noise: float = 0.1) -> Truth:
    """Two regressions whose weight vectors have cosine p (Ma et al., KDD 2018, section 4.1).

    y_k = w_k x + sum_i sin(alpha_i w_k x + beta_i) + e, w_1 = u_1, w_2 = p u_1 + sqrt(1 - p^2) u_2, u orthonormal, x ~ N(0, 1).
    """
    u = np.linalg.qr(rng.normal(size=(d, 2)))[0]
    weights = np.stack([u[:, 0], p * u[:, 0] + np.sqrt(1 - p * p) * u[:, 1]], 1)  # (d, 2)
    x = rng.normal(size=(n, d))
    s = x @ weights  # (n, 2)
    mean = s + sum(np.sin(a * s + b) for a, b in zip(ALPHA, BETA, strict=True))
    y = mean + noise * rng.normal(size=mean.shape)
    columns = {f"x{i}": x[:, i] for i in range(d)} | {"first": y[:, 0], "second": y[:, 1], "user_id": np.arange(n)}
    tasks = TaskSet([TaskSpec(name, "regression", unit_of_measure="1") for name in ("first", "second")])
    return Truth(LoggedDataset(columns), _numbers(d, tasks), {"first": mean[:, 0], "second": mean[:, 1]})


def funnel(n: int, hidden: float, rng: np.random.Generator, *, d: int = 8) -> Truth:
    """Impression > click > buy. What happens after a click is known for every row, clicked or not.

    Clicks and purchases read the same features, so clicked rows are no fair sample of all (selection on observed causes); with
    `hidden` > 0 both also read a cause that no feature shows (selection on unobserved ones). The truth `buy_if_clicked` is
    the probability over the hidden cause; `would_buy` is its draw.
    """
    x = rng.normal(size=(n, d))
    cause = rng.normal(size=n)
    to_click = -2.6 + 1.2 * x[:, 0] + 0.9 * x[:, 1] + 0.6 * x[:, 2] * x[:, 3]
    to_buy = -2.6 + 0.9 * x[:, 0] - 0.7 * x[:, 2] + 0.8 * np.sin(2 * x[:, 1]) + 0.5 * x[:, 4] * x[:, 5]
    click = (rng.random(n) < _sigmoid(to_click + hidden * cause)).astype(float)
    would_buy = (rng.random(n) < _sigmoid(to_buy + hidden * cause)).astype(float)
    draws = np.linspace(-3.5, 3.5, 41)
    density = np.exp(-(draws**2) / 2)
    buy_if_clicked = (_sigmoid(to_buy[:, None] + hidden * draws) * density).sum(1) / density.sum()
    columns: dict[str, AnyArray] = {f"x{i}": x[:, i] for i in range(d)}
    columns |= {"click": click, "buy": click * would_buy, "user_id": np.arange(n)}
    spec = _numbers(d, TaskSet([TaskSpec("click"), TaskSpec("buy")]))
    return Truth(LoggedDataset(columns), spec, {"buy_if_clicked": buy_if_clicked, "would_buy": would_buy})


def scenarios(n: int, rng: np.random.Generator, *, d: int = 16) -> Truth:
    """Two scenarios, one with a fifth of the rows, and two tasks that share some causes across scenarios and oppose in others."""
    x = rng.normal(size=(n, d))
    small = (rng.random(n) < 0.2).astype(np.int64)
    common = np.sin(1.5 * x[:, 0]) + 0.8 * x[:, 1] * x[:, 2]
    own = np.where(small == 0, 0.8 * x[:, 3] + 0.6 * x[:, 4] * x[:, 5], -0.8 * x[:, 3] + 0.6 * x[:, 6] * x[:, 7])
    to_click = -0.8 + common + own
    to_buy = -1.2 + 0.7 * common - 0.5 * own + 0.7 * x[:, 8]
    click = (rng.random(n) < _sigmoid(to_click)).astype(float)
    buy = click * (rng.random(n) < _sigmoid(to_buy))
    columns: dict[str, AnyArray] = {f"x{i}": x[:, i] for i in range(d)}
    columns |= {"scenario": small, "click": click, "buy": buy, "user_id": np.arange(n)}
    features = [Feature(f"x{i}", kind="dense", transform="none") for i in range(d)]
    spec = FeatureSpec(
        [Feature("scenario", side="request", dim=4), *features],
        TaskSet([TaskSpec("click"), TaskSpec("buy")]),
        scenario="scenario",
    )
    return Truth(LoggedDataset(columns), spec, {"click": _sigmoid(to_click), "buy": _sigmoid(to_click) * _sigmoid(to_buy)})


def behaviours(n: int, rng: np.random.Generator, *, n_items: int = 30, longest: int = 15) -> Truth:
    """Users like what resembles their past, and a purchase or a recent behaviour says more about it than a view or an old one."""
    taste = rng.normal(size=(n_items, 2))
    length = rng.integers(3, longest + 1, n)
    at = np.arange(longest)[None] < length[:, None]  # (n, L)
    item = rng.integers(0, n_items, (n, longest))
    kind = rng.choice(3, (n, longest), p=[0.7, 0.2, 0.1])
    age = -np.sort(-np.where(at, rng.integers(0, 4, (n, longest)), -1), 1)  # older first, padding last
    weight = np.array([0.1, 1.0, 4.0])[kind] * np.array([2.0, 1.0, 0.5, 0.25])[age] * at
    liking = (weight[..., None] * taste[item]).sum(1) / weight.sum(1, keepdims=True)  # (n, 2)
    shown = rng.integers(0, n_items, n)
    logit = 1.5 * (liking * taste[shown]).sum(1) - 0.3
    columns: dict[str, AnyArray] = {"item_id": shown, "user_id": np.arange(n)}
    for name, values in (("history", item), ("kind", np.array(["view", "like", "buy"])[kind]), ("age", age)):
        column = np.empty(n, object)
        for row in range(n):
            column[row] = values[row, : length[row]]
        columns[name] = column
    columns["click"] = (rng.random(n) < _sigmoid(logit)).astype(float)
    columns["like"] = columns["click"] * (rng.random(n) < _sigmoid(logit))
    unpooled = {"kind": "sequence", "side": "user", "max_len": longest, "pooling": "none"}
    spec = FeatureSpec(
        [
            Feature("history", shares="item_id", **unpooled),  # type: ignore[arg-type]  # literals in a dict
            Feature("kind", dim=4, **unpooled),  # type: ignore[arg-type]  # as above
            Feature("age", dim=4, **unpooled),  # type: ignore[arg-type]  # as above
            Feature("past", kind="sequence", side="user", column="history", shares="item_id", max_len=longest),
            Feature("item_id"),
        ],
        TaskSet([TaskSpec("click"), TaskSpec("like")]),
    )
    return Truth(LoggedDataset(columns), spec, {"click": _sigmoid(logit)})


def _numbers(d: int, tasks: TaskSet) -> FeatureSpec:
    return FeatureSpec([Feature(f"x{i}", kind="dense", transform="none") for i in range(d)], tasks)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
