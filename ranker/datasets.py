"""Tasks with data sets of their own become one log: a row counts only for the tasks that its data set labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset
from ranker.features import FeatureSpec

DATA_SET = "data_set"  # the column that says where a row is from


def join(spec: FeatureSpec, logs: Mapping[str, LoggedDataset]) -> LoggedDataset:
    """The logs' rows one after another, in column `data_set` the log's name; labels that a log lacks are NaN, not observed.

    Train on it as on any log: rows are then mixed, or take turns with `TrainConfig(alternate="data_set")`.

    Args:
        logs: By name. Each holds the features' columns and at least one task's label. User, item, time and scenario columns that
            are no features are kept when all logs have them; rows of a log without the weight column weigh 1. A log that
            labels user-level tasks only may leave item columns out: no such task reads them, they are filled with another log's.

    Raises:
        DataError: There is no log, one labels no task, lacks a feature's column, or holds a task but not its sample space.

    >>> from core.tasks import TaskSet, TaskSpec
    >>> from ranker.features import Feature
    >>> spec = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click"), TaskSpec("follow")]))
    >>> one, two = ({"item_id": np.array([1, 2]), task: np.array([0.0, 1.0])} for task in ("click", "follow"))
    >>> log = join(spec, {"feed": LoggedDataset(one), "pages": LoggedDataset(two)})
    >>> log["click"].tolist(), log["data_set"].tolist()
    ([0.0, 1.0, nan, nan], ['feed', 'feed', 'pages', 'pages'])
    """
    if not logs:
        raise DataError("no data set; give at least one log")
    spaces = {task.sample_space for task in spec.tasks if task.sample_space}
    labels = dict.fromkeys([*spec.tasks.names, *spaces])
    features = spec.columns()
    known = [spec.user, spec.item, spec.time, *([spec.scenario] if spec.scenario else [])]
    kept = [n for n in dict.fromkeys(known) if n not in features and n not in labels and all(n in log for log in logs.values())]
    joined: dict[str, list[AnyArray]] = {}
    for name, log in logs.items():
        _check(spec, name, log)
        part = {c: log[c] if c in log else _borrowed(spec, c, name, len(log), logs) for c in features}
        part |= {c: log[c] for c in kept}
        part |= {c: np.asarray(log[c], float) if c in log else np.full(len(log), np.nan) for c in labels}
        if spec.weight and spec.weight not in part:
            part[spec.weight] = log[spec.weight] if spec.weight in log else np.ones(len(log))
        part[DATA_SET] = np.full(len(log), name)
        for column, values in part.items():
            joined.setdefault(column, []).append(values)
    return LoggedDataset({column: np.concatenate(values) for column, values in joined.items()})


def _check(spec: FeatureSpec, name: str, log: LoggedDataset) -> None:
    own = [task for task in spec.tasks if task.name in log]
    if not own:
        raise DataError(f"data set {name!r} labels no task; give it one of the columns {', '.join(spec.tasks.names)}")
    for task in own:
        if task.sample_space and task.sample_space not in log:
            raise DataError(f"data set {name!r} holds task {task.name!r} but not its sample space {task.sample_space!r}")


def _borrowed(spec: FeatureSpec, column: str, name: str, n: int, logs: Mapping[str, LoggedDataset]) -> AnyArray:
    """Item values for a log whose tasks read none."""
    item = {feature.column for feature in spec.side("item")} - set(spec.columns("user", "request"))
    item_tasks = [task.name for task in spec.tasks if task.level == "item" and task.name in logs[name]]
    lenders = [log[column] for log in logs.values() if column in log and len(log)]
    if column not in item or item_tasks or not lenders:
        why = f"task {item_tasks[0]!r} reads it" if item_tasks else "it is a feature"
        raise DataError(f"data set {name!r} lacks column {column!r}, and {why}; add the column")
    return lenders[0][np.arange(n) % len(lenders[0])]
