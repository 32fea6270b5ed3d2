"""`scorefusion train-policy`: from a world or a log to a served artefact and its page; a killed run ends the same."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from core.artefacts import ArtefactStore
from core.scores import ScoreTable
from fusion.policy.strategy import PolicyStrategy
from fusion.strategy import load_strategy
from simulator import World
from workflow.cli import main
from workflow.policy_world import Ground
from workflow.train_policy import concatenated

WORLD = "{n_users: 200, n_items: 300, n_candidates: 12}"
SMALL = ["--sessions", "60", "--updates", "40", "--judge-sessions", "40", "--world-overrides", WORLD]


def train(folder: Path, *options: str) -> int:
    return main(["train-policy", "--artefacts", str(folder / "a"), "--out", str(folder / "out"), *SMALL, *options])


def test_a_policy_of_a_world_is_published_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--world", "default", "--algorithm", "td3_bc", "--rounds", "2") == 0
    said = capsys.readouterr().out
    assert "oracle_weights" in said
    assert said.splitlines()[-1].startswith(str(tmp_path / "a" / "strategy" / "td3_bc" / "v1"))
    strategy = load_strategy(ArtefactStore(tmp_path / "a").find("strategy/td3_bc"))
    assert isinstance(strategy, PolicyStrategy)
    world = World.make("default", seed=0, n_users=200, n_items=300, n_candidates=12)
    rng = np.random.default_rng(0)
    scores = ScoreTable(world.tasks.names, rng.random((12, len(world.tasks))))
    user = {name: column[7] for name, column in world.user_columns().items()}
    session = {f"{when}_{task}": 0.0 for when in ("session", "page") for task in world.tasks.names}
    context = {"request_id": "r", "user": user, "step": 0, "days_since": 0, "scenario": "feed", **session}
    fused = strategy.fuse(scores, context)
    assert fused.note is None, "the state was complete"
    assert set(fused.weights) == {f"w_{task}" for task in world.tasks.names}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    titles = [table["title"].split(" (")[0] for table in report["tables"]]
    assert titles == ["Return a session", "Guardrails", "Off-policy estimate"]
    returns, _, estimates = (table["rows"] for table in report["tables"])
    assert [row[0] for row in estimates] == ["hand_set", "td3_bc"]
    for row, truth in zip(estimates, returns, strict=False):
        status, value, low, high = row[1:5]
        assert row[5:8] == truth[1:4], "the truth beside an estimate is the judged return"
        assert (status == "ok") == (None not in (value, low, high)), "a number only where the log carries one"
    assert set(report["weights"]) == {"by step", "by users' cohort"}


def test_the_same_command_ends_the_same_after_a_kill(tmp_path: Path) -> None:
    options = ["--world", "clickbait", "--algorithm", "bc"]
    assert train(tmp_path / "whole", *options) == 0
    assert train(tmp_path / "cut", *options, "--updates", "20") == 0  # killed half way, then given again
    assert train(tmp_path / "cut", *options) == 0
    nets = [
        ArtefactStore(tmp_path / part / "a").find("strategy/bc").read_tensors("network.safetensors") for part in ("whole", "cut")
    ]
    assert all(np.array_equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_estimates_stand_only_where_truth_and_log_are_of_one_reward(tmp_path: Path) -> None:
    options = ["--world", "default", "--algorithm", "least_squares", "--sessions", "300", "--judge-sessions", "300"]
    assert train(tmp_path / "own", *options) == 0
    assert train(tmp_path / "other", *options, "--reward", "{act: {click: 1}}") == 0
    own, other = (json.loads((tmp_path / part / "out" / "report.json").read_text())["tables"] for part in ("own", "other"))
    assert (len(own), len(other)) == (3, 2)
    name, status, value, low, high, truth, *_ = own[2]["rows"][0]
    assert (name, status) == ("hand_set", "ok")
    assert low < value < high
    assert abs(value - truth) < high - low


@pytest.mark.timeout(1800)
def test_two_workers_killed_outright_and_told_again_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    """kill -9 on the command when its first checkpoint is there; the same command again against one that was left alone."""
    told = ["--world", "default", "--algorithm", "batchrl_mtf", "--workers", "2", "--updates", "300"]
    told += ["--settings", "{hidden: [8], batch_size: 32, n_samples: 3}"]  # draws random numbers in each worker
    cut = tmp_path / "cut"
    command = [sys.executable, "-m", "workflow.cli", "train-policy", "--artefacts", str(cut / "a"), "--out", str(cut / "out")]
    running = subprocess.Popen([*command, *SMALL, *told], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (cut / "out" / "batchrl_mtf-0" / "checkpoint.pt").is_file() and running.poll() is None:
        time.sleep(0.05)
    running.kill()
    running.wait()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert train(cut, *told) == 0
        assert train(tmp_path / "whole", *told) == 0
    finally:
        ray.shutdown()
    made = [ArtefactStore(tmp_path / part / "a").find("strategy/batchrl_mtf") for part in ("whole", "cut")]
    nets = [artefact.read_tensors("network.safetensors") for artefact in made]
    for name, value in nets[0].items():
        np.testing.assert_allclose(value, nets[1][name], atol=1e-6)


def test_a_search_is_published_too(tmp_path: Path) -> None:
    assert train(tmp_path, "--world", "default", "--algorithm", "cem", "--name", "constants") == 0
    assert ArtefactStore(tmp_path / "a").find("strategy/constants").config["network"]["kind"] == "constant"


def test_a_log_needs_the_policy_that_explored_and_then_keeps_its_formula(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ground = Ground.of(World.make("default", seed=0, n_users=200, n_items=300, n_candidates=12), n_slots=16)
    ground.log(30, seed=1).save(tmp_path / "log")
    assert train(tmp_path, "--log", str(tmp_path / "log"), "--algorithm", "bc") == 2
    assert "--log needs --policy" in capsys.readouterr().err
    assert train(tmp_path, "--world", "default", "--algorithm", "hand_set") == 0
    label = "strategy/hand_set/v1"
    assert train(tmp_path, "--log", str(tmp_path / "log"), "--policy", label) == 0
    store = ArtefactStore(tmp_path / "a")
    first, second = (load_strategy(store.find(f"strategy/{name}")) for name in ("hand_set", "least_squares"))
    assert isinstance(first, PolicyStrategy)
    assert isinstance(second, PolicyStrategy)
    assert (first.formula.text, first.ranges) == (second.formula.text, second.ranges)


def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path, "--algorithm", "bc") == 2
    assert "give one of --world PRESET and --log DIR" in capsys.readouterr().err
    assert train(tmp_path, "--log", "x", "--algorithm", "cem") == 2
    assert "plays and needs --world" in capsys.readouterr().err
    assert train(tmp_path, "--world", "default", "--algorithm", "cem", "--workers", "2") == 2
    assert "--workers 2: cem takes no gradient steps" in capsys.readouterr().err
    assert train(tmp_path, "--world", "default", "--algorithm", "bc", "--settings", "{depth: 3}") == 2
    assert "unknown setting 'depth'" in capsys.readouterr().err
    unlisted = ["--reward", "{act: {click: 1}}", "--settings", "{lists: true}"]  # with another reward no candidates are kept
    assert train(tmp_path, "--world", "default", "--algorithm", "least_squares", *unlisted) == 2
    assert "lists need every candidate's scores in the log" in capsys.readouterr().err
    assert train(tmp_path, "--world", "default", "--algorithm", "bc", "--fit-reward", "stickiness") == 2
    assert "--fit-reward needs --log" in capsys.readouterr().err
    assert train(tmp_path, "--log", "x", "--algorithm", "bc", "--fit-reward", "stickiness", "--fit-next", "0") == 2
    assert "--fit-next 0 must be at least 1" in capsys.readouterr().err


def test_tables_of_rounds_are_one_table_with_sessions_numbered_on() -> None:
    ground = Ground.of(World.make("default", seed=0, n_users=50, n_items=100, n_candidates=12), n_slots=8)
    parts = [ground.log(10, seed=seed) for seed in (1, 2)]
    whole = concatenated(parts)
    assert len(whole) == len(parts[0]) + len(parts[1])
    assert len(np.unique(whole.session)) == 20
    assert whole.returns().tolist() == [*parts[0].returns(), *parts[1].returns()]


def test_playing_gives_each_net_sessions_of_its_own_and_fresh_ones_each_time() -> None:
    ground = Ground.of(World.make("default", seed=0, n_users=50, n_items=100, n_candidates=12), n_slots=8)
    start = ground.start()
    nets = [start.net(ground.hand_set.astype(float)), start.net(np.full(ground.env.n_params, -0.9))]
    play = ground.play(3)
    first, second = play(nets, 30), play(nets, 30)
    assert first.shape == (2, 30)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, ground.play(3)(nets, 30))


def test_a_reward_s_weights_are_fitted_to_what_users_did_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table whose users stay longer after sessions with more activeness; the fitted weights are shown and published."""
    ground = Ground.of(World.make("default", seed=0, n_users=40, n_items=300, n_candidates=12), n_slots=16)
    rows = ground.log(400, seed=1)
    assert rows.time_ms is not None
    sizes = np.diff(np.r_[rows.starts, len(rows)])
    acted = np.add.reduceat(rows.rewards[:, rows.group_names.index("activeness")], rows.starts)
    order = np.lexsort([np.arange(len(sizes)), rows.user[rows.starts]])  # a user's sessions, one day after another
    day, before = np.empty(len(sizes), np.int64), np.zeros(len(sizes))
    day[order] = np.arange(len(sizes))
    before[order[1:]] = np.where(np.diff(rows.user[rows.starts][order]) == 0, acted[order[:-1]], 0.0)
    stay = np.where(np.arange(len(rows)) == np.repeat(rows.starts, sizes), np.repeat(before, sizes), 0.0)
    rewards = rows.rewards.copy()
    rewards[:, rows.group_names.index("stickiness")] = stay
    replace(rows, time_ms=np.repeat(day, sizes), rewards=rewards).save(tmp_path / "log")
    assert train(tmp_path, "--world", "default", "--algorithm", "hand_set") == 0
    told = ["--log", str(tmp_path / "log"), "--policy", "strategy/hand_set", "--algorithm", "bc"]
    assert train(tmp_path, *told, "--fit-reward", "stickiness") == 0
    assert "activeness  " in capsys.readouterr().out
    reward = ArtefactStore(tmp_path / "a").find("strategy/bc").config["search"]["reward"]
    assert reward["activeness"] > 0.8
    assert sum(reward.values()) == pytest.approx(1.0)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tables"][0]["title"].startswith("Reward weights fitted to stickiness in the user's next session (")
