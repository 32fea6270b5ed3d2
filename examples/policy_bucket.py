"""A learned policy in a bucket of the running service: simulated users over HTTP, the readout beside what the simulator knows.

Run: python examples/policy_bucket.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from core.arrays import Floats
from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.policy.reward import Reward
from fusion.strategy import hand_set_strategy, publish
from ranker.recipes import folder
from ranker.train import TrainConfig, train
from serving.client import Client
from serving.settings import Settings
from simulator.env import SessionEnv
from simulator.policies import Policy, constant, mixed_exploration
from simulator.rollout import rollout
from simulator.traffic import traffic
from simulator.world import World
from workflow.demo_policy import PolicyWorld, learn
from workflow.demo_sources import DEMO_WORLD
from workflow.online import Online
from workflow.serve import free_port, serving

TASKS = ("click", "complete", "like", "share", "watch_s")
PLAN = """
version: 1
default_strategy: hand_set
metrics:
  - {name: value_per_user, kind: mean, task: value}
layers:
  - name: fusion
    experiments:
      - name: policy
        analysis: {metrics: [value_per_user], primary: value_per_user, control: hand_set}
        buckets:
          - {name: hand_set, weight: 0.5, strategy: hand_set}
          - {name: policy, weight: 0.5, strategy: policy}
"""


def main(
    work: Path, *, n_users: int = 1500, n_items: int = 1000, n_sessions: int = 4000, n_updates: int = 1000, seed: int = 7
) -> dict[str, Any]:
    """The whole way; everything is kept in `work`."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    store = ArtefactStore(work / "artefacts")

    # 1. a world whose users differ in what they want, and a log of it
    world = World.make(str(DEMO_WORLD), seed=seed, n_users=n_users, n_items=n_items, n_candidates=50)
    reward, weights = world.settings.reward, world.formula_weights(world.hand_set())
    hand_set = {task: weights[task] for task in TASKS}
    env = SessionEnv(world, 64)
    log = rollout(env, mixed_exploration(np.zeros(env.n_params)), n_days=4, seed=seed)
    world.save(work)
    log.to_parquet(work / "log.parquet")

    # 2. a ranker trained on the log
    recipe = folder.load(work, tasks=TaskSet([world.tasks[name] for name in TASKS]))
    config = TrainConfig(epochs=3, batch_size=256, learning_rate=0.01, scales={"watch_s": "log1p"}, precision="float32")
    options = {"n_experts": 2, "hidden": [32, 16]}
    trained = train(
        recipe.spec, "mmoe", train=recipe.train, valid=recipe.valid, config=config, options=options, seed=seed, progress=False
    )
    ranker = trained.publish(store, "example")

    # 3. a policy: explore in the simulator with this ranker, learn from what was logged
    inside = PolicyWorld(world, trained.predictor, TASKS, hand_set)
    inside.explore(n_sessions, seed=seed + 1, reward=Reward({"value": reward})).save(work / "transitions")
    net = learn(work / "transitions", n_updates=n_updates, seed=seed)
    publish(store, "hand_set", hand_set_strategy(hand_set), ranker=ranker.label)
    publish(store, "policy", inside.strategy(net), ranker=ranker.label)

    # 4. what the simulator knows: value a user of the same day under both, for other random numbers
    control = value_per_user(inside, constant(inside.baseline), seed + 2)
    treated = value_per_user(inside, inside.acting(net), seed + 2)
    truth, truth_se = (
        treated.mean() - control.mean(),
        np.hypot(treated.std() / len(treated) ** 0.5, control.std() / len(control) ** 0.5),
    )

    # 5. the service, its users, and what its readout says
    (work / "plan.yaml").write_text(PLAN)
    values = {
        "port": free_port(),
        "work_dir": str(work),
        "ranker": ranker.label,
        "strategies": {"hand_set": "strategy/hand_set", "policy": "strategy/policy"},
        "default_strategy": "hand_set",
        "items": "items.parquet",
        "users": "users.parquet",
        "plan": "plan.yaml",
        "deadline_ms": 60_000.0,  # nobody is in a hurry here: a busy machine must not change the answer
    }
    (work / "serve.yaml").write_text(yaml.safe_dump(values))
    with serving(Settings.load(work / "serve.yaml")) as service:
        online = Online(service.url, reward)
        sent = traffic(world, online.rank, online.feedback, seed=seed + 3, layer="fusion", n_clients=8)
        time.sleep(1.0)  # the last exposures are flushed within a tenth of it
        with Client(service.url) as client:
            report = client.readout("policy")
    row = report["rows"][0]
    return {
        "requests": sent.n_requests,
        "failed": sent.n_failed,
        "users": report["counts"],
        "hand_set": row["control"],
        "policy": row["treatment"],
        "readout": [row["diff"], row["diff_low"], row["diff_high"]],
        "truth": [float(truth), float(truth - 1.96 * truth_se), float(truth + 1.96 * truth_se)],
    }


def value_per_user(inside: PolicyWorld, policy: Policy, seed: int) -> Floats:
    """Each user's value of one simulated day, over the users who came."""
    log: LoggedDataset = rollout(inside.env, policy, n_days=1, seed=seed)
    value = sum((gain * log[task].astype(float) for task, gain in inside.world.settings.reward.items()), np.zeros(len(log)))
    index = np.unique(log["user_id"], return_inverse=True)[1]
    return np.bincount(index, value).astype(float)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1])), indent=1))
