"""Ray Tune's workers judge slices, and the search is the one of a single process, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from core.logs import LoggedDataset
from fusion.distributed import on_workers
from tests.fusion.test_run import run


def test_two_workers_find_what_one_process_finds(log: LoggedDataset, tmp_path: Path) -> None:
    serial = run(log, "cem", n_trials=90, batch=45)
    spread = run(log, "cem", n_trials=90, batch=45, drive=on_workers(2), folder=tmp_path)
    np.testing.assert_array_equal(spread.vectors, serial.vectors)
    np.testing.assert_array_equal(spread.terms, serial.terms)
    assert spread.summary() == serial.summary()
    again = run(log, "cem", n_trials=90, batch=45, folder=tmp_path)  # the trials are on the driver's disk: only replayed
    assert again.summary() == serial.summary()


def test_no_workers_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        on_workers(0)
