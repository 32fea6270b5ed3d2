"""One piece of work at a time for a child process, by lines of JSON: so a peer's runs interleave with ours.

Both sides are here; the child runs in the peer's own environment, so this file needs the standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
Handler = Callable[..., dict[str, Any]]


class WorkerError(RuntimeError):
    """The child could not do the work; the message is what it said."""


class Worker:
    """A child process that runs `python -m MODULE` and answers commands.

    Args:
        python: The peer's interpreter.
        module: A module of this repository whose `__main__` calls `serve`.
        threads: Threads its numeric libraries may use.
    """

    def __init__(self, python: Path | str, module: str, *, threads: int = 2) -> None:
        self.module = module
        limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "TF")}
        self._child = subprocess.Popen(
            [str(python), "-W", "ignore", "-m", module],
            cwd=ROOT,
            env={**os.environ, **limits, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Run one command and wait for its answer.

        Raises:
            WorkerError: The child failed or died.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.module} ended with exit code {self._child.wait()} during {command!r}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.module}: {command!r}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the child; safe to call twice."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def serve(handlers: Mapping[str, Handler]) -> None:
    """The child's side: answer commands from stdin until it closes. What the peer prints goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = handlers[question["command"]](**question["arguments"])
        except Exception as error:  # the peer's failure is its answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
