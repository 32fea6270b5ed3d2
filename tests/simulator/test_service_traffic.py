"""Simulated users against the real running service: its buckets come out as a direct rollout of the same formulas says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.events import Request, Slate
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, publish
from ranker.recipes import folder
from ranker.train import TrainConfig, train
from serving.client import Client
from serving.loading import load
from serving.settings import Settings
from simulator import SessionEnv, World, rollout, traffic
from simulator.judge import interval
from simulator.policies import mixed_exploration
from tests.serving.running import Running
from workflow.online import Online

TASKS = ("click", "watch_s")
USERS, N_DAYS = np.arange(90), 2
PLAN = """
version: 1
default_strategy: long
metrics:
  - {name: watch_s_per_impression, kind: ratio, numerator: watch_s, denominator: exposures}
layers:
  - name: fusion
    experiments:
      - name: taste
        analysis: {metrics: [watch_s_per_impression], primary: watch_s_per_impression}
        buckets:
          - {name: short, weight: 0.5, strategy: short}
          - {name: long, weight: 0.5, strategy: long}
"""


@pytest.fixture(scope="module")
def world() -> World:
    return World.make("default", seed=4, n_users=150, n_items=300, n_candidates=20)


@pytest.fixture(scope="module")
def settings(world: World, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A ranker trained on the world's log, and two formulas of which one shows what is watched and one what is not."""
    root = tmp_path_factory.mktemp("service")
    env = SessionEnv(world, 64)
    world.save(root)
    log = rollout(env, mixed_exploration(np.zeros(env.n_params, np.float32)), 250, seed=1)
    log.to_parquet(root / "log.parquet")
    recipe = folder.load(root, tasks=TaskSet([world.tasks[name] for name in TASKS]))
    config = TrainConfig(epochs=1, batch_size=256, scales={"watch_s": "log1p"})
    trained = train(recipe.spec, "shared_bottom", train=recipe.train, valid=recipe.valid, config=config, progress=False)
    store = ArtefactStore(root / "artefacts")
    ranker = trained.publish(store, "world").label
    for name, text in {"long": "watch_s", "short": "1 / (watch_s + 0.1)"}.items():
        publish(store, name, FormulaStrategy(Formula.parse(text, tasks=list(TASKS)), {}), ranker=ranker)
    (root / "plan.yaml").write_text(PLAN)
    return Settings(
        work_dir=str(root),
        ranker=ranker,
        strategies={"long": "strategy/long", "short": "strategy/short"},
        default_strategy="long",
        items="items.parquet",
        users="users.parquet",
        plan="plan.yaml",
        deadline_ms=30_000,
    )


@pytest.fixture
def service(settings: Settings) -> Iterator[Running]:
    running = Running(settings)
    try:
        yield running.start()
    finally:
        running.clean()


def test_bucket_means_over_http_are_those_of_the_direct_rollout(world: World, settings: Settings, service: Running) -> None:
    online = Online(service.url, {})
    sent = traffic(world, online.rank, online.feedback, seed=6, users=USERS, n_days=N_DAYS, n_clients=4, layer="fusion")
    assert sent.n_failed == 0, sent.errors
    engine, buckets = load(settings).engine, dict[str, str]()

    def recommend(request: Request) -> Slate:
        slate = engine.rank(request)
        buckets[request.user_id] = slate.buckets["fusion"]
        return slate

    direct = rollout(SessionEnv(world, 16), seed=6, users=USERS, n_days=N_DAYS, recommend=recommend)
    bucket = np.array([buckets[str(user)] for user in direct["user_id"]])
    means = {}
    for name in ("short", "long"):
        here, there = sent.log.take(sent.log["bucket"] == name), direct.take(bucket == name)
        assert set(here["user_id"]) == set(there["user_id"])
        for task in ("click", "watch_s"):
            a, b = _per_user(here, task), _per_user(there, task)
            assert interval(a).low < b.mean() < interval(a).high, (name, task)
            means[name, task] = interval(a)
    assert means["long", "watch_s"].low > means["short", "watch_s"].high, "the truth is visible through the service"
    _agrees_with_the_readout(service, sent.log)


def _per_user(log: LoggedDataset, task: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, index = np.unique(log["user_id"], return_inverse=True)
    return np.bincount(index, weights=log[task].astype(float)) / np.bincount(index)


def _agrees_with_the_readout(service: Running, log: LoggedDataset) -> None:
    """What the store reads out is what the users did."""
    with Client(service.url) as client:
        client.call("POST", "/v1/flush", headers={"authorization": "Bearer test-token"})
        (row,) = client.readout("taste")["rows"]
    for side, name in (("control", "short"), ("treatment", "long")):
        told = log.take(log["bucket"] == name)["watch_s"].astype(float).mean()
        assert row[side] == pytest.approx(told, rel=1e-6), name
