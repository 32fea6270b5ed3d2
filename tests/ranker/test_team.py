"""Two processes over torch's process group come to the model of one, whatever compares losses, gradients or rows of a group."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed as dist

from core.errors import ConfigError
from ranker.balance import BALANCERS
from ranker.batches import BatchSource, pack
from ranker.checks import TASKS, example_log, example_spec
from ranker.encoder import Encoder
from ranker.shares import Shares
from ranker.team import ALONE, Team
from ranker.train import TrainConfig, Trained, fit, fit_scales
from tests.ranker.together import Together, sources

SPEC = example_spec(TASKS)
TRAIN, VALID = example_log(120, 0), example_log(60, 1)
BASE = TrainConfig(epochs=4, batch_size=40, learning_rate=0.01, patience=9, precision="float32")
OPTIONS: dict[str, dict[str, Any]] = {"decay": {"gamma": {"click": 0.2}}, "dwa": {"temperature": 0.05}}
CASES = {
    **{name: replace(BASE, balance=name, balance_options=OPTIONS.get(name, {})) for name in BALANCERS},
    **{kind: replace(BASE, ranking={"kind": kind, "group": "user_id"}) for kind in ("pairwise", "listwise")},
    "schedule": replace(BASE, schedule="cosine", average=0.9, average_power=1.0),
    "alternate": replace(BASE, alternate="scenario"),
    "members": BASE,
}
NETWORKS: dict[str, dict[str, Any]] = {"members": {"members": 2}}


def trained(source: BatchSource, case: str, team: Team = ALONE) -> Trained:
    config = CASES[case]
    encoder = Encoder.fit(SPEC, TRAIN)
    scales = fit_scales(TASKS, TRAIN, config)
    rows = pack(encoder, VALID, scales)
    settings: dict[str, Any] = {"scales": scales, "config": config, "options": NETWORKS.get(case)}
    return fit(source, encoder, rows, VALID, model="mmoe", **settings, team=team, progress=False)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes made of every case."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "tests.ranker.test_team", str(folder)]
    workers = [subprocess.Popen([*command, str(rank)], cwd=Path(__file__).parents[2]) for rank in range(2)]
    assert [worker.wait(timeout=840) for worker in workers] == [0, 0]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_make_the_model_of_one(case: str, by_two: Path) -> None:
    config = CASES[case]
    one = trained(Together(sources(SPEC, TASKS, TRAIN, config, 2)), case)
    slack = 0.05 if case == "cagrad" else 1e-4  # the solver of cagrad's weights stops early, and says something else each time
    made = [torch.load(by_two / f"{case}.{rank}.pt", weights_only=True) for rank in range(2)]
    for name, wanted in one.model.state_dict().items():
        assert torch.allclose(made[0][name], made[1][name], atol=1e-6), f"workers part at {name}"
        assert torch.allclose(made[0][name], wanted, atol=slack), name


def test_a_balance_that_keeps_to_its_own_rows_would_be_seen(by_two: Path) -> None:
    """What the cases make is apart by more than what equality allows."""
    made = {case: torch.load(by_two / f"{case}.0.pt", weights_only=True) for case in CASES}
    alike = [case for case in CASES if case not in ("fixed", "alternate", "members") and _gap(made[case], made["fixed"]) < 3e-2]
    assert alike == []


def _gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_groups_stay_whole_and_sources_are_divided() -> None:
    config = CASES["pairwise"]
    shares = Shares.of(TRAIN, TASKS, config, 3)
    users = [set(TRAIN["user_id"][mine]) for mine in np.split(shares.order, shares.cuts)]
    assert sorted(shares.order) == list(range(120))
    assert all(users)
    assert sum(map(len, users)) == len(set.union(*users))  # nobody's rows are with two workers
    shares = Shares.of(TRAIN, TASKS, CASES["alternate"], 3)
    parts = np.split(shares.order, shares.cuts)
    counts = np.array([np.bincount(TRAIN["scenario"][mine], minlength=3) for mine in parts])
    assert sorted(shares.order) == list(range(120))
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert shares.totals == tuple(counts.sum(0))


def test_a_worker_without_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="its 9 groups leave some of 10 workers without rows"):
        Shares.of(TRAIN, TASKS, CASES["pairwise"], 10)
    few = TRAIN.take(np.r_[np.flatnonzero(TRAIN["scenario"] != 2), np.flatnonzero(TRAIN["scenario"] == 2)[:1]])
    with pytest.raises(ConfigError, match="1 rows of 2 are fewer than 2 workers"):
        Shares.of(few, TASKS, CASES["alternate"], 2)


def _work(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    for case, config in CASES.items():
        made = trained(sources(SPEC, TASKS, TRAIN, config, 2)[rank], case, Team.joined())
        torch.save(made.model.state_dict(), folder / f"{case}.{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]))
