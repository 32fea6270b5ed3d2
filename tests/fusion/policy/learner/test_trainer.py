"""Training: learns what the log says, goes on identically after a kill, refuses what is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ArtefactError, ConfigError, DataError
from fusion.policy.learner.registry import ALGORITHMS
from fusion.policy.learner.trainer import Trained, train
from fusion.policy.transitions import Transitions

SMALL = {"hidden": [16], "batch_size": 64}


def table(n: int = 600, seed: int = 0, *, baseline: Any = (0.0, 0.0)) -> Transitions:
    """One-page sessions: the best action is +x for the first parameter and -.5 for the second, whatever x is."""
    rng = np.random.default_rng(seed)
    obs, action = rng.normal(size=(n, 3)), rng.uniform(-1, 1, (n, 2))
    best = np.column_stack([np.where(obs[:, 0] > 0, 0.8, -0.8), np.full(n, -0.5)])
    columns = {
        "session": np.arange(n),
        "step": np.zeros(n, int),
        "obs": obs,
        "next_obs": obs,
        "action": action,
        "reward": 1 - ((action - best) ** 2).sum(1),
        "terminated": np.ones(n, bool),
        "truncated": np.zeros(n, bool),
    }
    names: dict[str, Any] = {"obs_names": ["who_a", "who_b", "x"], "param_names": ["p", "q"]}
    base = None if baseline is None else np.array(baseline)
    return Transitions.from_log(columns, low=np.zeros(2), high=np.ones(2), baseline=base, **names)


def run(name: str, **options: Any) -> Trained:
    options = {"n_updates": 60, "settings": SMALL, "progress": False, "report_every": 20, **options}
    return train(options.pop("table", table()), name, **options)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_trains_reproducibly(name: str) -> None:
    first, second = (run(name, seed=5) for _ in range(2))
    assert first.status == "ok"
    assert [row["update"] for row in first.history] == [20.0, 40.0, 60.0]
    assert first.history == second.history
    obs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    acts = [t.net.act(obs, torch.Generator().manual_seed(1)) for t in (first, second)]
    assert torch.equal(*acts)
    assert acts[0].abs().max().item() <= 1


def test_td3_bc_finds_the_better_action() -> None:
    rows = table(2000)
    settings = {"hidden": [32], "actor_lr": 3e-3, "critic_lr": 3e-3, "alpha": 10.0}
    trained = train(rows, "td3_bc", settings=settings, n_updates=600, progress=False)
    obs = torch.from_numpy(table(300, seed=9).obs)
    action = trained.net.act(obs).numpy()
    right = np.where(obs[:, 0].numpy() > 0, 0.8, -0.8)
    assert np.abs(action[:, 0] - right).mean() < 0.4, "a policy without the state would be .8 away"
    assert np.abs(action[:, 1] + 0.5).mean() < 0.3


@pytest.mark.parametrize("name", ["batchrl_mtf", "td3"])
def test_a_killed_run_goes_on_identically(name: str, tmp_path: Path) -> None:
    settings = {**SMALL, "trace": 0.5, "trace_every": 30}
    whole = run(name, n_updates=80, settings=settings)
    run(name, n_updates=40, folder=tmp_path, checkpoint_every=20, settings=settings)  # killed after 40
    resumed = run(name, n_updates=80, folder=tmp_path, checkpoint_every=20, settings=settings)
    assert resumed.history == whole.history
    for mine, its in zip(resumed.net.parameters(), whole.net.parameters(), strict=True):
        assert torch.equal(mine, its)


def test_tensorboard_holds_the_curves(tmp_path: Path) -> None:
    run("bc", folder=tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    run("bc", folder=tmp_path)
    with pytest.raises(ConfigError, match="another folder"):
        run("bc", folder=tmp_path, seed=1)
    with pytest.raises(ConfigError, match="another folder"):
        run("bc", folder=tmp_path, table=table(seed=3))
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(ArtefactError, match="damaged"):
        run("bc", folder=tmp_path)


def test_wrong_input_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'ppo'; algorithms are bc"):
        run("ppo")
    with pytest.raises(ConfigError, match="unknown setting 'width'"):
        run("bc", settings={"width": 3})
    with pytest.raises(ConfigError, match="gate 'cohort_' begins no observation's name; names are who_a"):
        run("td3", settings={"critic": "linear", "gate": ["cohort_"]})
    with pytest.raises(DataError, match="baseline"):
        run("unified_rl", table=table(baseline=None))
    with pytest.raises(DataError, match="empty"):
        run("bc", table=table().take(np.zeros(0, int)))


def test_values_without_bounds_end_the_run() -> None:
    trained = run("td3", settings={**SMALL, "critic_lr": 1e6}, n_updates=2000)
    assert trained.status == "diverged"
    assert trained.n_updates < 2000


def test_gate_by_name_reaches_the_critic() -> None:
    trained = run("td3", settings={**SMALL, "critic": "linear", "gate": ["who_", "x"]})
    assert trained.settings["gate"] == [0, 1, 2]
