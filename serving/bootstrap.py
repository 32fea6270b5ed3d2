"""First start: without a ranker in the settings, a small simulated world, its log, a ranker and two formulas are made."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import AnyArray, Columns
from core.artefacts import ArtefactStore, json_bytes, write_whole
from core.errors import ConfigError
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, publish
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, train
from serving.settings import Settings
from simulator.env import SessionEnv
from simulator.policies import mixed_exploration
from simulator.rollout import join_features, rollout
from simulator.world import World

log = logging.getLogger("scorefusion.serving")
TASKS = ("click", "long_view", "complete", "like", "watch_s")
N_USERS, N_ITEMS, N_SESSIONS = 1_000, 3_000, 1_500
_NAME = "first-start"
_PLAN = """\
# made on first start: everybody is in one experiment, clicks alone against the hand-set formula
version: 1
default_strategy: hand_set
metrics:
  - {name: clicks_per_user, kind: mean, task: click}
  - {name: watch_s_per_user, kind: mean, task: watch_s}
  - {name: ctr, kind: ratio, numerator: click, denominator: exposures}
layers:
  - name: fusion
    experiments:
      - name: first-look
        analysis: {metrics: [clicks_per_user, watch_s_per_user, ctr], primary: watch_s_per_user}
        buckets:
          - {name: clicks_only, weight: 0.5, strategy: clicks_only}
          - {name: hand_set, weight: 0.5, strategy: hand_set}
"""


def ensure(settings: Settings, *, progress: bool = True) -> Settings:
    """The settings as they are when they name a ranker; else those of the first-start world, made once below `work_dir`.

    The same seed makes the same world, log, weights and plan. It takes some seconds; a kill in between starts over.
    """
    if settings.ranker or settings.release:
        return settings
    done = settings.resolve(_NAME) / "settings.json"
    if not done.exists():
        made = _make(settings, done.parent, progress)
        write_whole(done, json_bytes(made))
    try:
        made = json.loads(done.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{str(done)!r} cannot be read ({error}); remove that folder to make the first-start world again"
        ) from error
    kept = {name: value for name, value in made.items() if not (name == "plan" and settings.plan)}
    return settings.changed(**kept)


def _make(settings: Settings, folder: Path, progress: bool) -> dict[str, Any]:
    seed = settings.seed
    world = World.make("default", seed=seed, n_users=N_USERS, n_items=N_ITEMS)
    items, users = LoggedDataset(world.item_columns()), LoggedDataset(world.user_columns())
    items.to_parquet(folder / "items.parquet")
    users.to_parquet(folder / "users.parquet")
    (folder / "plan.yaml").write_text(_PLAN)
    env = SessionEnv(world, 256)
    explore = mixed_exploration(np.zeros(env.n_params, np.float32))
    data = join_features(items, users, rollout(env, explore, N_SESSIONS, seed=seed, progress=progress))
    data = data.take(np.argsort(data["session"], kind="stable"))
    cut = int(0.85 * len(data))
    trained = train(
        _spec(items.columns, users.columns, world),
        "mmoe",
        train=data.take(np.arange(cut)),
        valid=data.take(np.arange(cut, len(data))),
        config=TrainConfig(epochs=2, scales={"watch_s": "log1p"}),
        seed=seed,
        progress=progress,
    )
    store = ArtefactStore(settings.resolve(settings.artefacts))
    ranker = trained.publish(store, _NAME)
    weights = world.formula_weights(world.hand_set())
    chosen = {f"w_{task}": weights[task] for task in TASKS if weights[task]}
    text = " + ".join(f"{name} * {name.removeprefix('w_')}" for name in chosen)
    formulas = {
        "hand_set": FormulaStrategy(_formula(text, chosen), chosen),
        "clicks_only": FormulaStrategy(_formula("click", {}), {}),
    }
    strategies = {}
    for name, strategy in formulas.items():
        strategies[name] = publish(store, f"{_NAME}-{name.replace('_', '-')}", strategy, ranker=ranker.label, seed=seed).label
    log.info("first start: made a world, a ranker and two formulas", extra={"ranker": ranker.label})
    tables = {part: f"{_NAME}/{part}.parquet" for part in ("items", "users")}
    return {
        "ranker": ranker.label,
        "strategies": strategies,
        "default_strategy": "hand_set",
        "plan": f"{_NAME}/plan.yaml",
        **tables,
    }


def _formula(text: str, params: Mapping[str, float]) -> Formula:
    return Formula.parse(text, tasks=list(TASKS), params=list(params))


def _spec(items: Columns, users: Columns, world: World) -> FeatureSpec:
    features = [_feature(name, "user", column) for name, column in users.items() if name != "user_id"]
    features += [_feature(name, "item", column) for name, column in items.items() if name != "item_id"]
    return FeatureSpec.from_json({"tasks": [t for t in world.tasks.to_json() if t["name"] in TASKS], "features": features})


def _feature(name: str, side: str, column: AnyArray) -> dict[str, Any]:
    if column.dtype.kind == "f" or name.endswith("_day"):
        return {"name": name, "side": side, "kind": "dense", "transform": "standard"}
    return {"name": name, "side": side, "kind": "sparse", "oov": 1, "drop": 0.02}
