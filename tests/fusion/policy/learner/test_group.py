"""Two workers of RLlib's LearnerGroup take the steps that one process takes, and go on after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from core.errors import ConfigError
from fusion.policy.learner.trainer import Trained, train
from tests.fusion.policy.learner.test_trainer import table

SETTINGS = {"hidden": [8], "batch_size": 32}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all of this file: it takes seconds to start."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def run(name: str, *, settings: Mapping[str, Any] | None = None, **options: Any) -> Trained:
    told: dict[str, Any] = {"seed": 4, "n_updates": 20, "report_every": 10, "progress": False, **options}
    return train(table(200), name, settings={**SETTINGS, **(settings or {})}, **told)


def alike(mine: Trained, its: Trained) -> None:
    assert mine.n_updates == its.n_updates
    for my_row, its_row in zip(mine.history, its.history, strict=True):
        assert my_row == pytest.approx(its_row, abs=1e-4)
    for a, b in zip(mine.net.parameters(), its.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_two_workers_equal_one() -> None:
    alike(run("iql", n_workers=2), run("iql"))


def test_two_workers_that_were_killed_equal_one(tmp_path: Path) -> None:
    """Networks, optimisers, targets, lambda-returns and batches go on from the checkpoint, in each worker."""
    told: dict[str, Any] = {"settings": {"n_critics": 2, "trace": 0.5, "trace_every": 8}}
    run("unified_rl", n_workers=2, n_updates=10, folder=tmp_path, **told)
    alike(run("unified_rl", n_workers=2, folder=tmp_path, **told), run("unified_rl", **told))


def test_workers_share_a_batch_equally() -> None:
    with pytest.raises(ConfigError, match="batch_size 32 cannot be shared equally by 3 workers"):
        run("bc", n_workers=3)
    with pytest.raises(ConfigError, match="n_workers 0 must be at least 1"):
        run("bc", n_workers=0)
