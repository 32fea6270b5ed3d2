"""Two workers of RLlib's LearnerGroup take the steps that one process takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import ConfigError
from fusion.policy.learner.trainer import train
from tests.fusion.policy.learner.test_trainer import table

SETTINGS = {"hidden": [8], "batch_size": 32}


@pytest.mark.timeout(900)
def test_two_workers_equal_one(tmp_path: Path) -> None:
    rows = table(200)
    options: dict[str, Any] = {"settings": SETTINGS, "seed": 4, "report_every": 10, "progress": False}
    one = train(rows, "iql", n_updates=20, **options)
    two = train(rows, "iql", n_updates=20, n_workers=2, folder=tmp_path, **options)
    assert two.n_updates == 20
    for mine, its in zip(two.history, one.history, strict=True):
        assert mine == pytest.approx(its, abs=1e-4)
    for a, b in zip(two.net.parameters(), one.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_workers_share_a_batch_equally() -> None:
    with pytest.raises(ConfigError, match="batch_size 32 cannot be shared equally by 3 workers"):
        train(table(20), "bc", settings=SETTINGS, n_workers=3)
    with pytest.raises(ConfigError, match="n_workers 0 must be at least 1"):
        train(table(20), "bc", settings=SETTINGS, n_workers=0)
