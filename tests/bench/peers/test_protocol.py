"""Worker and serve: answers come through the peer's noise, and a failing or dying peer is an error, not a number."""

import sys

import pytest

from bench.peers.protocol import Worker, WorkerError

ECHO = "tests.bench.peers.echo_worker"


def test_answers_come_through_noise_and_threads_are_limited() -> None:
    with Worker(sys.executable, ECHO, threads=1) as worker:
        assert worker.call("echo", n=1, rows=[1.5]) == {"n": 1, "rows": [1.5]}
        assert worker.call("threads") == {"threads": "1"}


def test_a_failure_is_said_and_the_worker_goes_on() -> None:
    with Worker(sys.executable, ECHO) as worker:
        with pytest.raises(WorkerError, match="ValueError: no such network"):
            worker.call("fail")
        with pytest.raises(WorkerError, match="KeyError"):
            worker.call("unknown")
        assert worker.call("echo", n=2) == {"n": 2}


def test_a_dead_worker_is_an_error() -> None:
    worker = Worker(sys.executable, ECHO)
    with pytest.raises(WorkerError, match="exit code 3 during 'die'"):
        worker.call("die")
    worker.close()
    worker.close()
