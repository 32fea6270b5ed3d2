"""Our simulator takes user-steps when told to, so that it runs in as many processes as a peer does."""

from __future__ import annotations

import resource
import time
from typing import Any

import numpy as np
import psutil

from bench.peers.protocol import serve
from simulator import SessionEnv, World

state: dict[str, Any] = {}


def build(*, preset: str, n_candidates: int, batch: int, seed: int = 0) -> dict[str, Any]:
    """Make a vector environment; every behaviour, the ranker's predictions, satisfaction and observations are on."""
    env = SessionEnv(World.make(preset, seed=0, n_candidates=n_candidates), batch)
    env.reset(seed=seed)
    state.update(env=env, action=np.tile(env.actions(env.world.hand_set()), (batch, 1)))
    return {"page_size": env.world.settings.page_size}


def steps(*, n: int) -> dict[str, Any]:
    """Take `n` user-steps in batches. Seconds by the clock and of the processor, sessions that ended, memory in MiB."""
    env, action, sessions = state["env"], state["action"], 0
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(n // env.num_envs):
        _, _, left, cut, _ = env.step(action)
        sessions += int((left | cut).sum())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rss = psutil.Process().memory_info().rss / 2**20
    return {"seconds": seconds, "cpu_s": cpu, "sessions": sessions, "rss_mb": rss, "peak_mb": peak}


if __name__ == "__main__":
    serve({"build": build, "steps": steps})
