"""Long rollouts in shards: each a file that appears whole, so a killed run goes on where it stopped and workers share nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from simulator.env import SessionEnv
from simulator.policies import Policy, constant, mixed_exploration, uniform_box
from simulator.predictions import Ranker
from simulator.rollout import rollout
from simulator.settings import WorldSettings, from_values
from simulator.world import World

POLICIES = ("mixed", "box", "hand_set", "ctr")


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a rollout, in plain values that travel to any process: sessions `start .. stop - 1`, or users of those numbers.

    `n_days` None means separate sessions; else the users live through that many days.
    """

    settings: Mapping[str, Any]
    world_seed: int
    seed: int
    policy: str
    start: int
    stop: int
    n_days: int | None
    n_slots: int
    file: str
    ranker: str = ""  # which ranker scores, for whoever runs the shard and for telling runs apart; "": the simulated one


Work = Callable[[Shard], str]  # rolls a shard out and writes its file, which is the answer
Mapper = Callable[[Work, list[Shard]], Iterable[str]]  # runs them all, in any order and anywhere
MakeRanker = Callable[[World], Ranker]  # its columns are the world's tasks


def cut(
    settings: WorldSettings,
    folder: Path,
    *,
    world_seed: int,
    seed: int,
    policy: str = "mixed",
    n: int,
    n_days: int | None = None,
    size: int = 2_000,
    n_slots: int = 256,
    ranker: str = "",
) -> list[Shard]:
    """The shards of `n` sessions (or `n` users), `size` each, with files below `folder`."""
    if policy not in POLICIES:
        raise ConfigError(f"unknown policy {policy!r}; policies are {', '.join(POLICIES)}")
    if n < 1 or size < 1:
        raise ConfigError(f"{n} sessions or users in shards of {size}: both must be at least 1")
    plain = settings.to_json()
    starts = range(0, n, size)
    files = [str(folder / f"part-{i:05d}.parquet") for i in range(len(starts))]
    return [
        Shard(plain, world_seed, seed, policy, a, min(a + size, n), n_days, n_slots, f, ranker)
        for a, f in zip(starts, files, strict=True)
    ]


def run_shard(shard: Shard, make_ranker: MakeRanker | None = None) -> str:
    """Roll one shard out and write its file; the answer is the file. `make_ranker` gives a trained ranker for the world."""
    world = _world(json.dumps(shard.settings), shard.world_seed)
    ranker = None if make_ranker is None else make_ranker(world)
    env = SessionEnv(world, min(shard.n_slots, shard.stop - shard.start), ranker=ranker)
    policy = make_policy(shard.policy, env)
    if shard.n_days is None:
        log = rollout(env, policy, shard.stop - shard.start, seed=shard.seed, first=shard.start)
    else:
        try:
            log = rollout(env, policy, seed=shard.seed, n_days=shard.n_days, users=np.arange(shard.start, shard.stop))
        except DataError:  # nobody of these few came
            log = LoggedDataset({})
    log.to_parquet(shard.file)
    return shard.file


def run_shards(shards: list[Shard], mapper: Mapper | None = None, work: Work = run_shard) -> Iterable[str]:
    """Run those shards whose file is not there yet by `work`, yielding files as they come.

    Raises:
        ConfigError: The folder holds parts of another run.
    """
    folder = Path(shards[0].file).parent
    folder.mkdir(parents=True, exist_ok=True)
    plan = json.dumps([asdict(shard) for shard in shards], sort_keys=True)
    note = folder / "plan.json"
    if note.is_file() and note.read_text() != plan:
        raise ConfigError(f"{str(folder)!r} holds parts of another run; remove it or choose another folder")
    note.write_text(plan)
    todo = [shard for shard in shards if not Path(shard.file).is_file()]
    yield from (shard.file for shard in shards if shard not in todo)
    yield from map(work, todo) if mapper is None else mapper(work, todo)


def gather(shards: list[Shard], target: Path) -> int:
    """Join the parts, in order, to one Parquet file that appears whole; the answer is its number of rows."""
    partial = target.with_name(f".{target.name}.partial")
    writer: pq.ParquetWriter | None = None
    n = 0
    try:
        for shard in shards:
            table: pa.Table = pq.read_table(shard.file)
            if not table.num_rows:
                continue
            writer = writer or pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
            n += table.num_rows
        if writer is None:
            raise DataError("nobody had a session; simulate more users or more days")
        writer.close()
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return n


def make_policy(name: str, env: SessionEnv) -> Policy:
    """A logging policy around the preset's hand-set weights."""
    hand_set = env.actions(env.world.hand_set())
    if name == "mixed":
        return mixed_exploration(hand_set)
    if name == "box":
        return uniform_box(hand_set)
    if name == "ctr":
        return constant(env.actions(np.eye(env.n_params, dtype=np.float32)[0]))
    return constant(hand_set)


_LAST: dict[tuple[str, int], World] = {}


def _world(settings: str, seed: int) -> World:
    """The world of this process's last shard again, if it is the same: making one takes a second."""
    if (settings, seed) not in _LAST:
        _LAST.clear()
        _LAST[settings, seed] = World(from_values(json.loads(settings)), seed)
    return _LAST[settings, seed]
