"""Ali-CCP (ESMM's data): impressions of a shop with clicks and purchases, features of the user kept apart and shared by rows.

`sample_skeleton_{train,test}.csv` has sample, click, buy, index of the common features, their number, features; a feature reads
field \\x02 id \\x03 value, features are joined by \\x01. `common_features_{train,test}.csv` has index, number, features.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec, Side
from ranker.recipes.base import Recipe

# field of the files -> (name, side, whether it holds several ids)
FIELDS: dict[str, tuple[str, Side, bool]] = {
    "101": ("user_id", "user", False),
    "109_14": ("past_categories", "user", True),
    "110_14": ("past_shops", "user", True),
    "127_14": ("past_brands", "user", True),
    "150_14": ("past_intentions", "user", True),
    "121": ("user_group", "user", False),
    "122": ("user_group_2", "user", False),
    "124": ("gender", "user", False),
    "125": ("age", "user", False),
    "126": ("spending", "user", False),
    "127": ("spending_2", "user", False),
    "128": ("working", "user", False),
    "129": ("city", "user", False),
    "301": ("scenario", "request", False),
    "205": ("item_id", "item", False),
    "206": ("category_id", "item", False),
    "207": ("shop_id", "item", False),
    "210": ("intentions", "item", True),
    "216": ("brand_id", "item", False),
    "508": ("user_category", "item", False),
    "509": ("user_shop", "item", False),
    "702": ("user_brand", "item", False),
    "853": ("user_intention", "item", False),
}
CONFIG = TrainConfig(epochs=3, patience=1, evaluations=2, average=0.999)


def load(folder: str | Path, *, dim: int = 8, valid_share: float = 0.1) -> Recipe:
    """The official split; the last tenth of the training rows, whole users, chooses the epoch.

    Rows with a purchase but no click (noise of the logging) and repeated samples are dropped. Ids seen fewer than ten times
    share a row. Tasks are click and buy, both over all impressions, as ESMM wants them.
    """
    root = Path(folder)
    known, test = (_read(root, part) for part in ("train", "test"))
    users = np.unique(known["user_id"], return_index=True)
    first = users[1][np.searchsorted(users[0], known["user_id"])]  # where each row's user came first
    cut = np.sort(first)[int(len(known) * (1 - valid_share))]
    train, valid = known.take(first < cut), known.take(first >= cut)
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(f"Ali-CCP: no {name} rows; the files are too small to split")
    features = []
    for name, side, several in FIELDS.values():
        if several:
            features.append(Feature(name, "multi_hot", side, dim=dim, min_count=10, max_len=20))
        else:
            features.append(Feature(name, side=side, dim=dim, min_count=10, missing="fill"))
    spec = FeatureSpec(features, TaskSet([TaskSpec("click"), TaskSpec("buy")]), scenario="scenario")
    return Recipe("ali_ccp", spec, train, valid, test, config=CONFIG)


def parse(features: str) -> Iterator[tuple[str, int]]:
    """(field, id) of a feature list; values are all but constant, and left out.

    >>> list(parse("205\\x024387\\x031.0\\x01301\\x029351\\x031.0"))
    [('205', 4387), ('301', 9351)]
    """
    for feature in features.split("\x01"):
        if feature:
            field, rest = feature.split("\x02")
            yield field, int(rest.split("\x03")[0])


def _read(root: Path, part: str) -> LoggedDataset:
    common: dict[str, list[tuple[str, int]]] = {}
    for cells in _lines(root / f"common_features_{part}.csv", 3):
        common[cells[0]] = list(parse(cells[2]))
    labels: list[tuple[float, float]] = []
    single: dict[str, list[int]] = {name: [] for name, _, several in FIELDS.values() if not several}
    listed: dict[str, list[AnyArray]] = {name: [] for name, _, several in FIELDS.values() if several}
    seen: set[str] = set()
    for sample, click, buy, index, _, own in _lines(root / f"sample_skeleton_{part}.csv", 6):
        if sample in seen or (buy == "1" and click == "0"):
            continue
        seen.add(sample)
        if index not in common:
            raise DataError(f"Ali-CCP: sample {sample} names common features {index!r}, which common_features_{part}.csv lacks")
        found: dict[str, list[int]] = {}
        for field, value in (*common[index], *parse(own)):
            found.setdefault(field, []).append(value)
        labels.append((float(click), float(buy)))
        for field, (name, _, several) in FIELDS.items():
            values = found.get(field, [])
            if several:
                listed[name].append(np.array(values, np.int64))
            else:
                single[name].append(values[0] if values else -1)
    columns: dict[str, AnyArray] = {name: np.array(values, np.int64) for name, values in single.items()}
    for name, lists in listed.items():
        columns[name] = np.empty(len(lists), object)
        for row, values_of in enumerate(lists):
            columns[name][row] = values_of
    table = np.array(labels).reshape(-1, 2)
    return LoggedDataset({**columns, "click": table[:, 0], "buy": table[:, 1]})


def _lines(path: Path, n_cells: int) -> Iterator[list[str]]:
    try:
        with path.open() as file:
            for number, line in enumerate(file, 1):
                cells = line.rstrip("\n").split(",")
                if len(cells) != n_cells:
                    raise DataError(f"{path.name}, line {number}: {len(cells)} cells, not {n_cells}; is this the raw file?")
                yield cells
    except OSError as error:
        raise DataError(f"Ali-CCP needs {str(path)!r}: {error.strerror}") from error
