"""Any log in Parquet, CSV or Arrow with a feature spec in YAML, split by time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.ipc as ipc

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from ranker.datasets import join
from ranker.features import FeatureSpec
from ranker.recipes.base import Recipe


def load(path: str | Path, spec: FeatureSpec | str | Path, *, valid_share: float = 0.1, test_share: float = 0.1) -> Recipe:
    """Rows in time order: the last `test_share` to judge on, the share before that to choose by, the rest to learn from.

    Rows of one moment stay together, and fully duplicated rows are dropped.
    """
    spec = spec if isinstance(spec, FeatureSpec) else FeatureSpec.load(spec)
    log = read(path).require([*spec.columns(), *spec.tasks.names, *(t.sample_space for t in spec.tasks if t.sample_space)])
    train, valid, test = _split(log, spec, valid_share, test_share)
    return Recipe("generic", spec, train, valid, test)


def load_several(
    paths: Mapping[str, str | Path], spec: FeatureSpec | str | Path, *, valid_share: float = 0.1, test_share: float = 0.1
) -> Recipe:
    """Data sets of their own for some tasks, each split by its own time and then joined: see `ranker.datasets.join`.

    Args:
        paths: By the data set's name.
    """
    spec = spec if isinstance(spec, FeatureSpec) else FeatureSpec.load(spec)
    parts = {name: _split(read(path), spec, valid_share, test_share) for name, path in paths.items()}
    train, valid, test = (join(spec, {name: logs[at] for name, logs in parts.items()}) for at in range(3))
    return Recipe("generic", spec, train, valid, test)


def _split(log: LoggedDataset, spec: FeatureSpec, valid_share: float, test_share: float) -> list[LoggedDataset]:
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise ConfigError(f"shares {valid_share} and {test_share} must be above 0 and leave rows to train on")
    log = distinct(log.require([spec.time]))
    log = log.take(np.argsort(log[spec.time], kind="stable"))
    time = log[spec.time]
    cuts = np.quantile(np.arange(len(log)), [1 - valid_share - test_share, 1 - test_share]).astype(int)
    parts = log.split_time(*time[cuts], by=spec.time)
    for name, part in zip(("train", "valid", "test"), parts, strict=True):
        if len(part) == 0:
            raise DataError(f"the {name} part is empty: column {spec.time!r} has too few different values to split by time")
    return parts


def distinct(log: LoggedDataset) -> LoggedDataset:
    """The log without rows that repeat an earlier one in every column.

    >>> distinct(LoggedDataset({"item_id": np.array([1, 2, 1]), "click": np.array([0, 0, 0])}))["item_id"].tolist()
    [1, 2]
    """
    columns = {}
    for name, column in log.columns.items():
        lists = column.ndim == 2 or any(isinstance(value, np.ndarray) for value in column[:1])
        columns[name] = [None if value is None else np.asarray(value).tobytes() for value in column] if lists else column
    return log.take(~pd.DataFrame(columns).duplicated().to_numpy())


def read(path: str | Path) -> LoggedDataset:
    """A log by its file's ending: .parquet (or a folder of them), .csv, .arrow / .feather."""
    source = Path(path)
    if source.suffix in (".csv", ".arrow", ".feather"):
        try:
            if source.suffix == ".csv":
                return LoggedDataset.from_arrow(pc.read_csv(source))
            with pa.memory_map(str(source)) as file:
                return LoggedDataset.from_arrow(ipc.open_file(file).read_all())
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{str(source)!r} cannot be read: {error}") from error
    return LoggedDataset.from_parquet(source)
