"""An exported folder of log, items and users: a feature spec by the columns' types, and a split by time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.features import Feature, FeatureSpec, Side
from ranker.recipes.base import Recipe

_MANY = 500  # ids with more values than this share rows when they are rare, and are dropped now and then in training


def load(folder: str | Path, *, tasks: TaskSet | None = None, valid_share: float = 0.1, test_share: float = 0.25) -> Recipe:
    """The folder's log with its items' and users' columns beside it, the last shares of it by time to choose by and to judge on.

    Args:
        tasks: What to predict; all the tasks that world.json lists by default.

    Raises:
        DataError: A file is missing, or an id of the log is in no table.
    """
    root = Path(folder)
    parts = {name: LoggedDataset.from_parquet(root / f"{name}.parquet") for name in ("log", "items", "users")}
    chosen = tasks or tasks_of(root)
    spec = spec_for(parts["items"], parts["users"], chosen)
    log = parts["log"].require([*chosen.names, "user_id", "item_id", "time_ms"])
    log = join(join(log, parts["items"], "item_id"), parts["users"], "user_id")
    time = np.sort(log["time_ms"])
    cuts = [time[int(len(log) * share)] for share in (1 - valid_share - test_share, 1 - test_share)]
    train, valid, test = log.split_time(*cuts)
    return Recipe(root.name, spec, train, valid, test, parts["items"], parts["users"])


def tasks_of(folder: Path) -> TaskSet:
    """The tasks that a folder's world.json lists."""
    try:
        return TaskSet.from_json(json.loads((folder / "world.json").read_text())["tasks"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{str(folder / 'world.json')!r} must list the tasks ({type(error).__name__}: {error})") from error


def spec_for(items: LoggedDataset, users: LoggedDataset, tasks: TaskSet, *, dim: int = 8) -> FeatureSpec:
    """A spec for tables as they stand: whole numbers and text are ids, other numbers are dense, lists are sets of ids."""
    features = [Feature("scenario", side="request", dim=dim, missing="fill")]
    sides: tuple[tuple[Side, LoggedDataset, str], ...] = (("user", users, "user_id"), ("item", items, "item_id"))
    for side, table, key in sides:
        for name in table:
            features.append(_feature(name, table[name], side, dim, is_key=name == key))
    return FeatureSpec(features, tasks, scenario="scenario")


def _feature(name: str, column: AnyArray, side: Side, dim: int, *, is_key: bool) -> Feature:
    if column.dtype.kind == "f":
        return Feature(name, kind="dense", side=side, transform="piecewise", missing="fill")
    if column.dtype == object and len(column) and isinstance(column[0], np.ndarray):
        return Feature(name, kind="multi_hot", side=side, dim=dim)
    many = is_key or len(np.unique(column)) > _MANY
    return Feature(name, side=side, dim=dim, min_count=5 if many else 1, drop=0.1 if many else 0.0, missing="fill")


def join(log: LoggedDataset, table: LoggedDataset, key: str) -> LoggedDataset:
    """The log with a table's columns beside it, by `key`.

    >>> log = LoggedDataset({"item_id": np.array([7, 5, 7])})
    >>> join(log, LoggedDataset({"item_id": np.array([5, 7]), "price": np.array([0.5, 0.7])}), "item_id")["price"].tolist()
    [0.7, 0.5, 0.7]
    """
    order = np.argsort(table[key], kind="stable")
    ids = table[key][order]
    at = np.minimum(np.searchsorted(ids, log[key]), max(len(ids) - 1, 0))
    missing = np.flatnonzero(ids[at] != log[key]) if len(ids) else np.arange(len(log))
    if len(missing):
        raise DataError(f"{key} {log[key][missing[0]]!r} of the log is not in its table; every logged id needs a row there")
    return log.with_columns({name: table[name][order[at]] for name in table if name != key})
