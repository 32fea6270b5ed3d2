"""What holds for every test: no time limit an example, the same examples in every run, and who may run beside whom."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ours", deadline=None, derandomize=True)
settings.load_profile("ours")

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes of two threads each would wait for one another on two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = (  # they start Ray, services or workers: one after another; `make test` runs the others beside them
    "tests/examples",
    "tests/fusion/policy/learner/test_group.py",
    "tests/fusion/test_distributed.py",
    "tests/ranker/test_distributed.py",
    "tests/ranker/test_team.py",
    "tests/serving",
    "tests/simulator/test_service_traffic.py",
    "tests/test_readme.py",
    "tests/workflow",
)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """One group for the tests that start processes, one a file for all others."""
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        item.add_marker(pytest.mark.xdist_group("processes" if file.startswith(PROCESSES) else file))
