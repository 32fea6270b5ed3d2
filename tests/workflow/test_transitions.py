"""Store -> transitions: what was logged online is what the events say offline; logs that mislead are refused."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from core.arrays import Floats32
from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError, DataError
from core.events import FEEDBACK_SCHEMA, Request, Slate
from core.scores import ScoreTable
from experiment.store import EventStore, open_store
from fusion.formula.families import weighted_sum_of
from fusion.policy.exploration import Exploration, boxed
from fusion.policy.networks import build
from fusion.policy.reward import Reward
from fusion.policy.strategy import PolicyStrategy
from fusion.strategy import hand_set_strategy, load_strategy, publish
from serving.engine import Engine
from serving.outbox import Outbox
from serving.release import Release
from simulator.traffic import traffic
from simulator.world import World
from tests.serving.fakes import Ids
from workflow.cli import main
from workflow.policy_state import state_of
from workflow.transitions import open_transitions, read_transitions

TASKS = ("click", "like", "watch_s")
REWARD = Reward({"activeness": {"click": 0.3, "like": 1.0}, "stickiness": {"watch_s": 0.01}})


class ById:
    """Scores that depend on the item's id."""

    names = TASKS

    def score(self, user: Any, request: Any, items: Any) -> Floats32:
        return np.stack([0.5 + 0.4 * np.sin(items), 0.1 + 0.05 * np.cos(items), 10 + 5 * np.sin(2 * items)], 1).astype(np.float32)


@dataclass(frozen=True)
class Logged:
    """A store that a policy's sessions went to, with what is needed to check it."""

    store: EventStore
    url: str
    artefact: Artefact
    world: World


def serve(world: World, folder: Path, exploration: Exploration | None) -> Logged:
    """Let a few users live through two days with an in-process service and a real store."""
    spec, _ = state_of(world, TASKS)
    formula = weighted_sum_of(dict.fromkeys(TASKS, 1.0))
    torch.manual_seed(0)
    net = build({"kind": "actor", "n_obs": len(spec), "n_params": 3, "hidden": []})
    ranges = {f"w_{task}": (0.0, float(world.unit[world.tasks.names.index(task)])) for task in TASKS}
    policy = PolicyStrategy(formula, ranges, spec, net, {name: high / 2 for name, (_, high) in ranges.items()}, exploration)
    artefact = publish(ArtefactStore(folder / "artefacts"), "explore", policy)
    users = world.user_columns()

    def profile(user_id: str) -> Mapping[str, Any]:
        return {name: column[int(user_id)] for name, column in users.items()}

    release = Release(ById(), Ids(), {"explore": policy}, "explore", {"explore": artefact.label}, {"explore": "policy"}, profile)
    engine, outbox, lock = Engine(release, deadline_ms=1e6), Outbox(10_000, 0.0, lambda: 0.5), threading.Lock()
    url = f"duckdb://{folder}/events.duckdb"
    store = open_store(url)

    def rank(request: Request) -> Slate:
        with lock:
            ranked = engine.run(request)
            outbox.add(ranked)
        assert ranked.slate.degraded is None
        return ranked.slate

    def feedback(rows: Sequence[Mapping[str, Any]]) -> None:
        with lock:
            store.append(feedback=pa.Table.from_pylist(list(rows), schema=FEEDBACK_SCHEMA))

    traffic(world, rank, feedback, seed=3, users=np.arange(25), n_days=2, n_clients=4)
    batch = outbox.drain()
    assert batch is not None
    store.append(requests=batch.requests, exposures=batch.exposures)
    return Logged(store, url, artefact, world)


@pytest.fixture(scope="module")
def world() -> World:
    return World.make("default", n_users=40, n_items=300, n_candidates=12)


@pytest.fixture(scope="module")
def logged(world: World, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return serve(world, tmp_path_factory.mktemp("explore"), boxed(0.3))


def test_states_online_are_what_the_store_s_events_say(logged: Logged) -> None:
    """Recomputed from requests, feedback and the user table alone, without anything the client sent but its session's name."""
    requests = logged.store.arrow("SELECT * FROM requests ORDER BY user_id, session, time_ms").to_pylist()
    feedback = logged.store.arrow("SELECT request_id, task, sum(value) AS n FROM feedback GROUP BY ALL").to_pylist()
    pages: dict[str, dict[str, float]] = {}
    for event in feedback:
        pages.setdefault(event["request_id"], {})[event["task"]] = event["n"]
    strategy = load_strategy(logged.artefact)
    assert isinstance(strategy, PolicyStrategy)
    names, users = logged.world.tasks.names, logged.world.user_columns()
    checked = [i for i, name in enumerate(strategy.state.names) if name != "days_since"]  # the one thing events cannot say
    session, seen, last, step, worst = "", dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), 0, 0.0
    for row in requests:
        if row["session"] != session:
            session, step = row["session"], 0
            seen, last = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        context = {f"session_{task}": n for task, n in seen.items()} | {f"page_{task}": n for task, n in last.items()}
        context |= {"step": step, "days_since": 0, "scenario": row["scenario"]}
        user = {name: column[int(row["user_id"])] for name, column in users.items()}
        values = np.frombuffer(row["candidate_scores"], np.float16).reshape(-1, len(TASKS)).astype(float)
        state = strategy.state.see(user, context, ScoreTable(TASKS, values))
        worst = max(worst, float(np.abs(state - np.array(row["state"], np.float32))[checked].max()))
        last = {task: pages.get(row["request_id"], {}).get(task, 0.0) for task in names}
        seen = {task: seen[task] + last[task] for task in names}
        step += 1
    assert len(requests) > 100
    assert worst < 2e-3  # scores are kept as float16


def test_the_store_becomes_a_table_as_a_whole_and_in_parts(logged: Logged, tmp_path: Path) -> None:
    (whole,) = read_transitions(logged.store, logged.artefact, REWARD, gap_s=0.0)
    counted = logged.store.select("SELECT count(*) AS n, count(DISTINCT session) AS sessions FROM requests")
    assert len(whole) == counted["n"][0]
    assert len(whole.starts) == counted["sessions"][0] == whole.terminated.sum()
    worth = "sum(CASE task WHEN 'click' THEN .3 WHEN 'like' THEN 1 ELSE .01 END * value)"
    paid = logged.store.select(f"SELECT {worth} AS r FROM feedback WHERE task IN ('click', 'like', 'watch_s')")
    assert whole.reward.sum() == pytest.approx(float(paid["r"][0]), rel=1e-5)
    assert whole.box.tolist() == [pytest.approx(0.3)] * len(whole)
    assert np.isfinite(whole.propensity).all()
    assert whole.slate is not None
    assert whole.candidates is not None
    assert whole.position_rewards is not None
    np.testing.assert_allclose(whole.position_rewards.sum(1), whole.reward, rtol=1e-4, atol=1e-5)
    assert all(np.isin(shown, offered).all() for shown, offered in zip(whole.slate, whole.candidates, strict=True))
    strategy = load_strategy(logged.artefact)
    assert isinstance(strategy, PolicyStrategy)
    decided, _ = strategy.decide(whole.obs[0], "another")
    np.testing.assert_allclose(decided.baseline, whole.baseline[0], rtol=1e-6)
    parts = list(read_transitions(logged.store, logged.artefact, REWARD, gap_s=0.0, part_rows=40))
    assert len(parts) > 2
    assert sum(map(len, parts)) == len(whole)
    assert sum(part.reward.sum() for part in parts) == pytest.approx(whole.reward.sum(), rel=1e-5)
    assert len({s for part in parts for s in np.unique(part.session)}) == len(whole.starts)


def test_a_url_is_read_into_a_folder_of_maps(logged: Logged, tmp_path: Path) -> None:
    logged.store.close()
    table = open_transitions(logged.url, tmp_path / "t", policy=logged.artefact, reward=REWARD, gap_s=0.0)
    assert isinstance(table.obs, np.memmap)
    assert len(open_transitions(str(tmp_path / "t"), tmp_path / "unused")) == len(table)
    with pytest.raises(ConfigError, match="name the policy that explored"):
        open_transitions(logged.url, tmp_path / "t")


def test_train_policy_learns_from_a_service_s_own_events(
    logged: Logged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """store -> transitions -> learner -> artefact; the new policy keeps the old one's formula and state, and serves."""
    logged.store.close()
    artefacts = logged.artefact.path.parents[2]
    told = [
        "train-policy",
        "--log",
        logged.url,
        "--policy",
        "strategy/explore",
        "--artefacts",
        str(artefacts),
        "--name",
        "learned",
    ]
    told += ["--algorithm", "bc", "--updates", "20", "--out", str(tmp_path / "out")]
    rewarded = [*told, "--reward", "{act: {click: 0.3, like: 1.0}, stay: {watch_s: 0.01}}"]
    assert main(rewarded) == 0
    learned, logging = load_policy(ArtefactStore(artefacts).find("strategy/learned")), load_policy(logged.artefact)
    assert (learned.state.names, learned.ranges, learned.exploration) == (logging.state.names, logging.ranges, None)
    lists = ["--algorithm", "least_squares", "--settings", "{lists: true, gate: []}", "--name", "solved"]
    assert main([*rewarded, *lists]) == 0, "the service stores every candidate's scores where a bucket explores"
    assert load_policy(ArtefactStore(artefacts).find("strategy/solved")).ranges == logging.ranges
    capsys.readouterr()
    assert main([*rewarded, "--fit-reward", "dwell"]) == 2
    assert "no group 'dwell' to fit its weights to; groups are act, stay" in capsys.readouterr().err
    assert main(told) == 2
    assert "name the policy that explored and its reward" in capsys.readouterr().err


def test_what_cannot_be_learned_from_is_one_clear_error(world: World, tmp_path: Path) -> None:
    logged = serve(world, tmp_path, None)
    with pytest.raises(DataError, match="the policy did not explore"):
        list(read_transitions(logged.store, logged.artefact, REWARD))
    store = ArtefactStore(tmp_path / "artefacts")
    with pytest.raises(DataError, match="holds no request that"):
        list(read_transitions(logged.store, publish(store, "explore", load_policy(logged.artefact)), REWARD))
    with pytest.raises(ConfigError, match="is no policy but 'formula'"):
        list(read_transitions(logged.store, publish(store, "f", hand_set_strategy({"click": 1.0})), REWARD))
    logged.store.close()


def load_policy(artefact: Artefact) -> PolicyStrategy:
    """The artefact's policy."""
    strategy = load_strategy(artefact)
    assert isinstance(strategy, PolicyStrategy)
    return strategy
