"""Any log in Parquet, CSV or Arrow with a feature spec in YAML, split by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.ipc as ipc

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from ranker.features import FeatureSpec
from ranker.recipes.base import Recipe


def load(path: str | Path, spec: FeatureSpec | str | Path, *, valid_share: float = 0.1, test_share: float = 0.1) -> Recipe:
    """Rows in time order: the last `test_share` to judge on, the share before that to choose by, the rest to learn from.

    Rows of one moment stay together, and fully duplicated rows are dropped.
    """
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise ConfigError(f"shares {valid_share} and {test_share} must be above 0 and leave rows to train on")
    spec = spec if isinstance(spec, FeatureSpec) else FeatureSpec.load(spec)
    needed = [*spec.columns(), *spec.tasks.names, *(t.sample_space for t in spec.tasks if t.sample_space), spec.time]
    log = read(path).require(needed)
    log = log.take(np.argsort(log[spec.time], kind="stable"))
    time = log[spec.time]
    cuts = np.quantile(np.arange(len(log)), [1 - valid_share - test_share, 1 - test_share]).astype(int)
    parts = log.split_time(*time[cuts], by=spec.time)
    for name, part in zip(("train", "valid", "test"), parts, strict=True):
        if len(part) == 0:
            raise DataError(f"the {name} part is empty: column {spec.time!r} has too few different values to split by time")
    train, valid, test = parts
    return Recipe("generic", spec, train, valid, test)


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
