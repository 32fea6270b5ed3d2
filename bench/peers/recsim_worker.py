"""RecSim's interest-evolution environment takes steps when told to, in its own environment.

Only RecSim's agents need TensorFlow and Dopamine; its environments use `gin.configurable` alone. So `gin.tf` is given as plain
gin, and the agents' runner, which its package imports on the way, as an empty module. The environment's code is untouched.
"""

from __future__ import annotations

import sys
import time
import types
from importlib import import_module
from typing import Any

import numpy as np

from bench.peers.protocol import serve

state: dict[str, Any] = {}


def build(*, n_candidates: int, page_size: int, resample_documents: bool = True, seed: int = 0) -> dict[str, Any]:
    """Make one environment: one user at a time, `n_candidates` fresh documents a step unless they are kept."""
    sys.modules["gin.tf"] = import_module("gin")
    sys.modules["recsim.simulator.runner_lib"] = types.ModuleType("recsim.simulator.runner_lib")
    environments = import_module("recsim.environments.interest_evolution")
    settings = {
        "num_candidates": n_candidates,
        "slate_size": page_size,
        "resample_documents": resample_documents,
        "seed": seed,
    }
    state["env"] = environments.create_environment(settings)
    state["rng"] = np.random.default_rng(seed)
    state["pages"] = n_candidates, page_size
    state["env"].reset()
    return {}


def steps(*, n: int) -> dict[str, Any]:
    """Take `n` user-steps with random pages, a new user whenever a session ends. Seconds by the clock and
    of the processor, and the sessions that ended."""
    env, rng, (n_candidates, page_size) = state["env"], state["rng"], state["pages"]
    pages = [rng.choice(n_candidates, page_size, replace=False) for _ in range(64)]
    start, cpu, sessions = time.perf_counter(), time.process_time(), 0
    for i in range(n):
        done = env.step(pages[i % 64])[2]
        if done:
            env.reset()
            sessions += 1
    return {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu, "sessions": sessions}


if __name__ == "__main__":
    serve({"build": build, "steps": steps})
