"""Several workers for one policy: RLlib's LearnerGroup places them over a Ray cluster, each takes its part of every batch.

The table lies in Ray's object store, once a machine. Gradients are averaged after each backward pass, so two workers with half
a batch each take the step that one takes with the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, cast

import ray
import torch

from core.errors import ConfigError, ScorefusionError
from fusion.policy.learner.base import FusionConfig, FusionLearner
from fusion.policy.learner.loop import Loop
from fusion.policy.transitions import Transitions


@contextmanager
def loop_of(config: FusionConfig, table: Transitions, n_workers: int) -> Iterator[Loop | GroupLoop]:
    """A loop in this process, or over so many Ray workers; Ray is started for it, and stopped, if it does not run.

    Raises:
        ConfigError: The batch cannot be cut into equal parts.
    """
    if n_workers == 1:
        yield Loop(cast(FusionLearner, config.build_learner()), table)
        return
    size = int(config.settings["batch_size"])
    if size % n_workers:
        raise ConfigError(f"batch_size {size} cannot be shared equally by {n_workers} workers; choose a multiple")
    ours = not ray.is_initialized()
    if ours:
        ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    loop = GroupLoop(config, table, n_workers)
    try:
        yield loop
    finally:
        loop.close()
        if ours:
            ray.shutdown()


class GroupLoop:
    """`Loop`, with the work done by a group of learners; a copy in this process holds what they learned."""

    def __init__(self, config: FusionConfig, table: Transitions, n_workers: int) -> None:
        self._here = Loop(cast(FusionLearner, config.build_learner()), table)
        self.rows, self.n_updates, self._n_workers = self._here.rows, 0, n_workers
        placed: Any = config.copy(copy_frozen=False).learners(num_learners=n_workers, num_cpus_per_learner=1)
        self._group = placed.build_learner_group()
        self._all(_Start(ray.put(table)))

    @property
    def learner(self) -> FusionLearner:
        """A learner in this process, with the workers' networks."""
        self._here.restore(self.snapshot()["workers"][0])
        return self._here.learner

    def run(self, n: int) -> dict[str, float]:
        """`n` updates; the means of their losses."""
        rows = self._all(_Run(n))
        self.n_updates += n
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def snapshot(self) -> dict[str, Any]:
        """All that the next update depends on, by worker."""
        return {"workers": self._all(_snapshot)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot."""
        self._all(_Restore(ray.put(state["workers"])))
        self.n_updates = int(state["workers"][0]["learner"]["n_updates"])

    def close(self) -> None:
        """End the workers."""
        self._group.shutdown()

    def _all(self, call: Callable[[Any], tuple[int, Any]]) -> list[Any]:
        """What each worker answered, by rank.

        Raises:
            ScorefusionError: A worker failed.
        """
        results = list(self._group.foreach_learner(call))
        failed = [result.get() for result in results if not result.ok]  # RLlib hands errors back instead of raising them
        if failed or len(results) < self._n_workers:
            raise ScorefusionError(f"a training worker failed: {next(iter(failed), 'it is gone')}")
        return [answer for _, answer in sorted((result.get() for result in results), key=itemgetter(0))]


class _Start:
    """Sent to each worker: take the worker's part of the table's batches, and random numbers of its own."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __call__(self, learner: Any) -> tuple[int, None]:
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        learner.loop = Loop(learner, ray.get(self.table), rank=rank, n_workers=size)
        learner.generator.manual_seed(learner.generator.initial_seed() + 1000 * rank)
        return rank, None


class _Run:
    """Sent to each worker: some updates."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, learner: Any) -> tuple[int, dict[str, float]]:
        return torch.distributed.get_rank(), learner.loop.run(self.n)


class _Restore:
    """Sent to each worker: its own state of a snapshot."""

    def __init__(self, states: Any) -> None:
        self.states = states

    def __call__(self, learner: Any) -> tuple[int, None]:
        rank = torch.distributed.get_rank()
        learner.loop.restore(ray.get(self.states)[rank])
        return rank, None


def _snapshot(learner: Any) -> tuple[int, dict[str, Any]]:
    return torch.distributed.get_rank(), learner.loop.snapshot()
