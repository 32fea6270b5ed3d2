"""AliExpress search (Li et al., CIKM 2020): clicks and conversions in several countries, 16 categorical and 63 numeric columns.

A country is a folder `AliExpress_XX` with train.csv and test.csv; columns are search_id, categorical_*, numerical_*, click,
conversion. Several countries side by side become scenarios.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec
from ranker.recipes.base import Recipe
from ranker.recipes.generic import distinct

TASKS = TaskSet([TaskSpec("click"), TaskSpec("conversion")])
_APART = 1_000_000_000  # between the search numbers of two files
CONFIG = TrainConfig(epochs=3, patience=1, evaluations=2, average=0.999)


def load(folder: str | Path, *, dim: int = 8, valid_share: float = 0.1) -> Recipe:
    """The official split by time; the last tenth of each country's training searches, in the file's order, chooses the epoch.

    Fully repeated rows are dropped. A search is one request: GAUC ranks within it.
    """
    root = Path(folder)
    countries = [root] if (root / "train.csv").is_file() else sorted(p for p in root.glob("AliExpress_*") if p.is_dir())
    if not countries:
        raise DataError(f"{str(root)!r} holds neither train.csv nor folders AliExpress_XX; give one of those")
    parts: dict[str, list[LoggedDataset]] = {"train": [], "valid": [], "test": []}
    for at, country in enumerate(countries):
        name = country.name.removeprefix("AliExpress_")
        known, test = (_read(country / f"{part}.csv", name, (2 * at + p) * _APART) for p, part in enumerate(("train", "test")))
        searches, first = np.unique(known["search_id"], return_index=True)
        came = first[np.searchsorted(searches, known["search_id"])]  # where each row's search begins
        late = came >= np.sort(came)[int(len(known) * (1 - valid_share))]
        for part, rows in (("train", known.take(~late)), ("valid", known.take(late)), ("test", test)):
            if len(rows) == 0:
                raise DataError(f"AliExpress: no {part} rows in {country.name}; the file is too small to split")
            parts[part].append(rows)
    joined = [LoggedDataset({name: np.concatenate([log[name] for log in logs]) for name in logs[0]}) for logs in parts.values()]
    names = list(joined[0])
    features = [Feature("scenario", side="request", dim=dim)] if len(countries) > 1 else []
    features += [Feature(name, dim=dim, min_count=5, missing="fill") for name in names if name.startswith("categorical")]
    features += [Feature(name, "dense", missing="fill") for name in names if name.startswith("numerical")]
    spec = FeatureSpec(features, TASKS, user="search_id", scenario="scenario")
    return Recipe("aliexpress", spec, *joined, config=CONFIG)


def _read(path: Path, country: str, start: int) -> LoggedDataset:
    """A file's rows once each, its searches numbered from `start`."""
    try:
        table = pc.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"AliExpress needs {str(path)!r}: {error}") from error
    log = LoggedDataset.from_arrow(table).require(["search_id", *TASKS.names])
    kept = {
        n: c for n, c in log.columns.items() if n.startswith(("categorical", "numerical")) or n in ("search_id", *TASKS.names)
    }
    if len(kept) < 4:
        raise DataError(f"{str(path)!r} has no categorical_* or numerical_* columns; columns are {', '.join(log)}")
    once = distinct(LoggedDataset(kept))
    codes = np.unique(once["search_id"], return_inverse=True)[1]
    return once.with_columns({"search_id": codes + start, "scenario": np.full(len(codes), country)})
