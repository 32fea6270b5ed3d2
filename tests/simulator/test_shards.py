"""Shards: any split and any order of work gives one log; a killed run goes on; another run's parts are refused."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from simulator.settings import load_settings
from simulator.shards import cut, gather, run_shard, run_shards

SETTINGS = load_settings("default", n_users=60, n_items=100, n_candidates=10)


def _log(folder: Path, size: int, n_slots: int = 16) -> bytes:
    shards = cut(SETTINGS, folder, world_seed=1, seed=2, n=24, size=size, n_slots=n_slots)
    list(run_shards(shards, lambda work, todo: [work(shard) for shard in reversed(todo)]))
    assert gather(shards, folder.parent / f"{folder.name}.parquet") > 100
    table = folder.parent / f"{folder.name}.parquet"
    import pyarrow.parquet as pq

    content: bytes = b"".join(column.combine_chunks().to_string().encode() for column in pq.read_table(table).columns)
    return content


def test_the_split_does_not_matter(tmp_path: Path) -> None:
    assert _log(tmp_path / "a", 24) == _log(tmp_path / "b", 7, n_slots=5)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    shards = cut(SETTINGS, tmp_path, world_seed=1, seed=2, n=24, size=12)
    tmp_path.mkdir(exist_ok=True)
    run_shard(shards[0])
    done: list[str] = []

    def count(work: object, todo: list[object]) -> list[str]:
        done.extend(str(shard) for shard in todo)
        return [run_shard(shard) for shard in shards[1:]]

    assert len(list(run_shards(shards, count))) == 2  # type: ignore[arg-type]  # a mapper for this test alone
    assert len(done) == 1


def test_parts_of_another_run_are_refused(tmp_path: Path) -> None:
    list(run_shards(cut(SETTINGS, tmp_path, world_seed=1, seed=2, n=5)))
    with pytest.raises(ConfigError, match="another run"):
        list(run_shards(cut(SETTINGS, tmp_path, world_seed=1, seed=3, n=5)))


def test_lives_are_sharded_by_user(tmp_path: Path) -> None:
    one = cut(SETTINGS, tmp_path / "one", world_seed=1, seed=2, n=20, n_days=2, size=20)
    two = cut(SETTINGS, tmp_path / "two", world_seed=1, seed=2, n=20, n_days=2, size=6)
    list(run_shards(one))
    list(run_shards(two))
    assert gather(one, tmp_path / "one.parquet") == gather(two, tmp_path / "two.parquet")


def test_unknown_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policies are mixed"):
        cut(SETTINGS, tmp_path, world_seed=1, seed=1, policy="best", n=1)
