"""A search survives kill -9, and many workers find what one process finds, to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from core.arrays import Floats
from core.logs import LoggedDataset
from fusion.search import Objective, SearchResult, function, gauc
from tests.fusion.conftest import make_log
from tests.fusion.test_run import run

N_TRIALS, BATCH = 60, 12


def searched(folder: Path | None, die_at: int | None = None) -> SearchResult:
    """A search whose objective holds a function; the function kills its own process at its n-th call."""
    calls = 0

    def top(final: Floats, log: LoggedDataset) -> float:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(log["like"][np.argsort(-final, kind="stable")[:200]].mean())

    objective = Objective([gauc("click"), function("top", top)])
    return run(make_log(), "cma_es", n_trials=N_TRIALS, batch=BATCH, objective=objective, folder=folder)


def test_a_search_killed_by_kill_9_goes_on_to_the_same_result(tmp_path: Path) -> None:
    die_at = 40  # after the scale check's calls and the control's: in the fourth batch or the third
    command = [sys.executable, "-m", "tests.fusion.test_study", str(tmp_path / "killed"), str(die_at)]
    killed = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    kept = len((tmp_path / "killed" / "trials.jsonl").read_bytes().splitlines()) - 1
    assert 0 < kept < N_TRIALS // BATCH
    resumed, whole = searched(tmp_path / "killed"), searched(tmp_path / "whole")
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    np.testing.assert_array_equal(resumed.terms, whole.terms)
    assert resumed.summary() == whole.summary()
    assert (tmp_path / "killed" / "trials.jsonl").read_bytes() == (tmp_path / "whole" / "trials.jsonl").read_bytes()


if __name__ == "__main__":
    searched(Path(sys.argv[1]), int(sys.argv[2]))
