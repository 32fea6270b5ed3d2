"""A small trained service for tests: tables, a log with real signal, an MMoE, two formulas and a plan, made in about a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, publish
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, train
from serving.settings import Settings

N_ITEMS, N_USERS = 400, 50
PLAN = """
version: 1
default_strategy: hand_set
metrics:
  - {name: clicks_per_user, kind: mean, task: click}
  - {name: ctr, kind: ratio, numerator: click, denominator: exposures}
layers:
  - name: fusion
    experiments:
      - name: weights
        analysis: {metrics: [clicks_per_user, ctr], primary: clicks_per_user}
        buckets:
          - {name: control, weight: 0.5, strategy: hand_set}
          - {name: treatment, weight: 0.5, strategy: searched}
"""


def tables(seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Item and user columns."""
    rng = np.random.default_rng(seed)
    items = {
        "item_id": np.arange(N_ITEMS),
        "author": rng.integers(0, 40, N_ITEMS),
        "quality": rng.normal(size=N_ITEMS),
        "length_s": rng.exponential(30, N_ITEMS),
    }
    users = {"user_id": np.arange(N_USERS), "age": rng.integers(18, 70, N_USERS), "taste": rng.normal(size=N_USERS)}
    return items, users


def log(items: dict[str, Any], users: dict[str, Any], n: int = 4_000, seed: int = 1) -> LoggedDataset:
    """Impressions whose clicks and likes follow quality and taste."""
    rng = np.random.default_rng(seed)
    item, user = rng.integers(0, N_ITEMS, n), rng.integers(0, N_USERS, n)
    signal = items["quality"][item] + items["quality"][item] * users["taste"][user]
    columns = {name: column[item] for name, column in items.items()} | {name: column[user] for name, column in users.items()}
    return LoggedDataset(
        columns
        | {
            "click": (rng.random(n) < 1 / (1 + np.exp(0.5 - signal))).astype(float),
            "like": (rng.random(n) < 1 / (1 + np.exp(2.0 - signal))).astype(float),
            "time_ms": np.arange(n),
        }
    )


def spec() -> FeatureSpec:
    """The features of the tables, two tasks."""
    return FeatureSpec.from_json(
        {
            "tasks": [{"name": "click"}, {"name": "like"}],
            "features": [
                {"name": "user_id", "side": "user", "vocabulary": "hash", "size": 100},
                {"name": "age", "side": "user", "kind": "dense"},
                {"name": "taste", "side": "user", "kind": "dense"},
                {"name": "author", "side": "item"},
                {"name": "quality", "side": "item", "kind": "dense"},
                {"name": "length_s", "side": "item", "kind": "dense", "transform": "log1p"},
            ],
        }
    )


def make(folder: Path, **changes: Any) -> Settings:
    """Train, publish, write the tables and the plan below `folder`; settings that serve them."""
    items, users = tables()
    data = log(items, users)
    trained = train(
        spec(), "mmoe", train=data.take(np.arange(3_000)), valid=data.take(np.arange(3_000, 4_000)),
        config=TrainConfig(epochs=1, batch_size=256), progress=False,
    )  # fmt: skip
    store = ArtefactStore(folder / "artefacts")
    ranker = trained.publish(store, "small")
    for name, text in {"hand_set": "click + 5 * like", "searched": "click ** 0.5 * (like + 0.01)"}.items():
        publish(store, name, FormulaStrategy(Formula.parse(text, tasks=["click", "like"]), {}), ranker=ranker.label)
    LoggedDataset(items).to_parquet(folder / "items.parquet")
    LoggedDataset(users).to_parquet(folder / "users.parquet")
    (folder / "plan.yaml").write_text(PLAN)
    settings = Settings(
        work_dir=str(folder),
        ranker="ranker/small",
        strategies={"hand_set": "strategy/hand_set", "searched": "strategy/searched"},
        default_strategy="hand_set",
        items="items.parquet",
        users="users.parquet",
        plan="plan.yaml",
    )
    return replace(settings, **changes)
