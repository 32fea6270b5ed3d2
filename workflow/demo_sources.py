"""Where the demo's rows and users come from: a simulated world, or real KuaiRand replayed."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from core.arrays import AnyArray
from core.errors import DataError
from core.events import Request
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from fusion.policy.reward import Reward
from fusion.policy.strategy import PolicyStrategy
from ranker.predictor import Predictor
from ranker.recipes import Recipe, folder, kuairand
from simulator.env import SessionEnv
from simulator.policies import mixed_exploration
from simulator.rollout import rollout
from simulator.traffic import traffic
from simulator.world import World
from workflow.demo_policy import ALGORITHM, PolicyWorld, learn
from workflow.online import Online

N_CLIENTS = 8
N_SESSIONS, N_UPDATES, N_JUDGED = 2000, 500, 600
DEMO_WORLD = Path(__file__).parent / "demo_world.yaml"


class Source(ABC):
    """A data set with users who can be sent to the service.

    Attributes:
        gains: What one behaviour is worth in the search; `hand_set` are the control's weights over calibrated scores.
        metrics: Of the experiment's readout; the primary one, first, is what a policy learns to raise: the gains' sum over a
            user's sessions (a search raises it page by page).
        says, sends: One line on the rows, and one on the users.
    """

    says: str
    sends: str
    gains: Mapping[str, float]
    hand_set: Mapping[str, float]
    metrics: Sequence[Mapping[str, Any]]
    training: Mapping[str, Any]
    family = "weighted_sum"
    heldout_days = 1
    learns = ""  # one line on how a policy is learned; empty where there is no simulator to explore in

    @abstractmethod
    def recipe(self) -> Recipe:
        """Rows to train, choose and search on, and the feature tables."""

    def learn(self, predictor: Predictor) -> tuple[PolicyStrategy, Mapping[str, Any], str]:
        """A policy over this ranker's scores, how good it is, and that in one line."""
        raise NotImplementedError

    @abstractmethod
    def send(self, url: str) -> str:
        """Let the users meet the service; what came of it, in one line."""


class Simulated(Source):
    """The world of demo_world.yaml: its users live a few days under an exploring policy, and later meet the service."""

    tasks = ("click", "complete", "like", "share", "watch_s")
    n_days = 8
    heldout_days = 2
    training: Mapping[str, Any] = {"epochs": 2, "scales": {"watch_s": "log1p"}, "learning_rate": 0.002}
    metrics = (
        {"name": "value_per_user", "kind": "mean", "task": "value"},
        {"name": "value_per_impression", "kind": "ratio", "numerator": "value", "denominator": "exposures"},
        {"name": "likes_per_impression", "kind": "ratio", "numerator": "like", "denominator": "exposures"},
        {"name": "shares_per_impression", "kind": "ratio", "numerator": "share", "denominator": "exposures"},
        {"name": "watch_s_per_user", "kind": "mean", "task": "watch_s"},
        {"name": "clicks_per_impression", "kind": "ratio", "numerator": "click", "denominator": "exposures"},
        {"name": "pages_per_user", "kind": "mean", "task": "requests"},
    )

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.seed, self.work = args.seed, work
        self.world = World.make(str(DEMO_WORLD), seed=args.seed, n_users=args.users, n_items=3000, n_candidates=50)
        reward, weights = self.world.settings.reward, self.world.formula_weights(self.world.hand_set())
        self.gains = {task: reward[task] for task in self.tasks if reward.get(task, 0) > 0}
        self.hand_set = {task: weights[task] for task in self.tasks if weights[task] != 0}
        self.says = f"simulate {args.users} users over {self.n_days} days"
        self.learns = f"learn a policy ({ALGORITHM}) from {N_SESSIONS} simulated sessions of mixed exploration with this ranker"
        self.sends = f"send the {args.users} users through HTTP, {N_CLIENTS} at a time"

    def recipe(self) -> Recipe:
        """A log of mixed exploration, so that the search sees more than one ranking."""
        env = SessionEnv(self.world, 128)
        some = np.arange(0, len(self.world.population), max(len(self.world.population) // 1000, 1))
        explore = mixed_exploration(np.zeros(env.n_params, np.float32))
        log = rollout(env, explore, n_days=self.n_days, users=some, seed=self.seed, progress=True)
        self.world.save(self.work / "world")
        log.to_parquet(self.work / "world" / "log.parquet")
        chosen = TaskSet([self.world.tasks[name] for name in self.tasks])
        return folder.load(self.work / "world", tasks=chosen, test_share=0.35)

    def learn(self, predictor: Predictor) -> tuple[PolicyStrategy, Mapping[str, Any], str]:
        """Explore in this world with this ranker, learn, and judge on other sessions."""
        inside = PolicyWorld(self.world, predictor, self.tasks, self.hand_set)
        table = inside.explore(N_SESSIONS, seed=self.seed + 2, reward=Reward({"value": self.gains}), progress=True)
        table.save(self.work / "transitions")
        net = learn(self.work / "transitions", n_updates=N_UPDATES, seed=self.seed)
        found = inside.compare(net, N_JUDGED, seed=self.seed + 3)
        return inside.strategy(net), asdict(found), f"the policy in {N_JUDGED} other simulated sessions: {found}"

    def send(self, url: str) -> str:
        """Simulated users over HTTP, closed loop."""
        online = Online(url, self.gains)
        found = traffic(
            self.world, online.rank, online.feedback, seed=self.seed + 1, n_clients=N_CLIENTS, layer="fusion", progress=True
        )
        p50, p99 = np.quantile(found.latency_ms, [0.5, 0.99])
        return (
            f"{found.n_requests} requests, {found.n_failed} failed, {found.n_feedback} events fed back, "
            f"{found.rate:.0f} requests/s in closed loop, latency p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )


class Replayed(Source):
    """Real KuaiRand: the ranker and the search use its log; on the judged days each user's real impressions are ranked again,
    the first half of the list counts as shown, and the real answers to those come back as feedback."""

    training: Mapping[str, Any] = {"epochs": 3, "embedding_decay": 0.1}
    gains: Mapping[str, float] = {"click": 1.0, "long_view": 1.0, "like": 5.0, "profile_enter": 3.0}
    hand_set: Mapping[str, float] = {"click": 1.0, "long_view": 1.0, "like": 1.0, "profile_enter": 1.0}
    metrics = (
        {"name": "value_per_impression", "kind": "ratio", "numerator": "value", "denominator": "exposures"},
        {"name": "long_views_per_impression", "kind": "ratio", "numerator": "long_view", "denominator": "exposures"},
        {"name": "clicks_per_impression", "kind": "ratio", "numerator": "click", "denominator": "exposures"},
        {"name": "likes_per_impression", "kind": "ratio", "numerator": "like", "denominator": "exposures"},
    )

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.data = Path(args.data)
        self.says = f"read KuaiRand from {self.data}"
        self.sends = "replay the last day: real impressions are ranked, the upper half is shown, the real answers come back"
        self.last = LoggedDataset({})

    def recipe(self) -> Recipe:
        """Learn to 05-02, choose on 05-03, search and judge later; features are the tables' own, which serving looks up."""
        log, items, users = kuairand_tables(self.data)
        spec = folder.spec_for(items, users, TaskSet([TaskSpec(name) for name in self.gains]))
        joined = folder.join(folder.join(log, items, "item_id"), users, "user_id")
        train, valid, test = joined.split_time(kuairand.TRAIN_TO, kuairand.VALID_TO, by="date")
        self.last = test.take(test["date"] == test["date"].max())
        return Recipe("kuairand_tables", spec, train, valid, test, items, users)

    def send(self, url: str) -> str:
        """One request a user with at least two impressions on the last day."""
        log, online = self.last, Online(url, self.gains)
        order = np.argsort(log["user_id"], kind="stable")
        users, starts = np.unique(log["user_id"][order], return_index=True)
        groups = [rows for rows in np.split(order, starts[1:]) if len(rows) >= 2]

        def one(rows: AnyArray) -> int:
            items = log["item_id"][rows]
            _, first = np.unique(items, return_index=True)
            rows = rows[np.sort(first)]
            user = str(log["user_id"][rows[0]])
            request = Request(
                f"replay-{user}", user, log["item_id"][rows], str(log["scenario"][rows[0]]), page_size=max(len(rows) // 2, 1)
            )
            slate = online.rank(request)
            row_of = {int(log["item_id"][row]): row for row in rows}
            shown = [(item, task, float(log[task][row_of[item]])) for item in slate.items.tolist() for task in self.gains]
            events = [
                {
                    "event_id": f"{request.request_id}-{i}-{t}",
                    "request_id": request.request_id,
                    "item_id": i,
                    "task": t,
                    "value": v,
                }
                for i, t, v in shown
                if v > 0
            ]
            if events:
                online.feedback(events)
            return len(events)

        with ThreadPoolExecutor(N_CLIENTS) as pool:
            counts = list(tqdm(pool.map(one, groups), total=len(groups), unit="user"))
        return f"{len(groups)} requests of {len(users)} users, {sum(counts)} real answers fed back"


def kuairand_tables(root: Path) -> tuple[LoggedDataset, LoggedDataset, LoggedDataset]:
    """KuaiRand's log without doubled rows, its videos and its users, under this project's names."""
    missing = [name for name in kuairand.FILES.values() if not (root / name).is_file()]
    if missing:
        raise DataError(f"--data {str(root)!r} has no {missing[0]!r}; it must be a folder of KuaiRand-Pure")
    log = pd.read_parquet(root / kuairand.FILES["log"]).drop_duplicates().sort_values("time_ms", kind="stable")
    log = log.rename(columns={**kuairand.LABELS, "video_id": "item_id", "tab": "scenario"})
    log["scenario"] = log["scenario"].astype(str)
    items = pd.read_csv(root / kuairand.FILES["items"]).rename(columns={"video_id": "item_id"})
    users = pd.read_csv(root / kuairand.FILES["users"])
    kept = ["user_id", "item_id", "scenario", "date", "time_ms", *kuairand.BINARY]
    return _columns(log[kept]), _columns(items.drop(columns="upload_dt")), _columns(users)


def _columns(frame: pd.DataFrame) -> LoggedDataset:
    return LoggedDataset({str(name): _plain(frame[name]) for name in frame})


def _plain(series: pd.Series) -> AnyArray:
    """A column as numpy: text as str with holes empty, nullable numbers as plain ones."""
    if not pd.api.types.is_numeric_dtype(series):
        return series.fillna("").astype(str).to_numpy(object)
    return series.to_numpy(np.float64, na_value=np.nan) if series.isna().any() else series.to_numpy(series.dtype.name.lower())


SOURCES: Mapping[str, Callable[[argparse.Namespace, Path], Source]] = {"simulated": Simulated, "kuairand": Replayed}
