"""A child for the protocol's tests: it echoes, prints where it should not, fails, and dies."""

import os
from typing import Any

from bench.peers.protocol import serve


def echo(**arguments: Any) -> dict[str, Any]:
    """Answer with the arguments, after printing noise."""
    print("noise on stdout")
    return arguments


def threads() -> dict[str, Any]:
    """The thread limit the parent gave."""
    return {"threads": os.environ["OMP_NUM_THREADS"]}


def fail() -> dict[str, Any]:
    """Raise."""
    raise ValueError("no such network")


def die() -> dict[str, Any]:
    """End without an answer."""
    os._exit(3)


if __name__ == "__main__":
    serve({"echo": echo, "threads": threads, "fail": fail, "die": die})
