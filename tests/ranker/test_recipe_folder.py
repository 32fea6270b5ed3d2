"""An exported folder becomes a recipe: types decide the features, time decides the split, ids join exactly."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from ranker.recipes import folder


def export(root: Path, n: int = 400) -> Path:
    rng = np.random.default_rng(0)
    items, users = np.arange(100, 120)[::-1], np.arange(30)
    LoggedDataset({"item_id": items, "topic": items % 4, "price": items / 10.0}).to_parquet(root / "items.parquet")
    LoggedDataset({"user_id": users, "city": np.array([f"c{u % 3}" for u in users], object)}).to_parquet(root / "users.parquet")
    log = {
        "user_id": rng.choice(users, n),
        "item_id": rng.choice(items, n),
        "scenario": np.array(["feed"] * n, object),
        "time_ms": rng.permutation(n),
        "click": rng.integers(0, 2, n).astype(float),
    }
    LoggedDataset(log).to_parquet(root / "log.parquet")
    (root / "world.json").write_text(json.dumps({"tasks": [{"name": "click"}]}))
    return root


def test_features_follow_the_columns_types(tmp_path: Path) -> None:
    spec = folder.load(export(tmp_path)).spec
    found = {feature.name: (feature.kind, feature.side) for feature in spec.features}
    assert found == {
        "scenario": ("sparse", "request"),
        "user_id": ("sparse", "user"),
        "city": ("sparse", "user"),
        "item_id": ("sparse", "item"),
        "topic": ("sparse", "item"),
        "price": ("dense", "item"),
    }


def test_the_split_is_by_time_and_the_join_by_id(tmp_path: Path) -> None:
    recipe = folder.load(export(tmp_path))
    assert recipe.train["time_ms"].max() < recipe.valid["time_ms"].min()
    assert recipe.valid["time_ms"].max() < recipe.test["time_ms"].min()
    assert len(recipe.train) + len(recipe.valid) + len(recipe.test) == 400
    np.testing.assert_allclose(recipe.test["price"], recipe.test["item_id"] / 10.0)


def test_an_id_without_a_row_is_named(tmp_path: Path) -> None:
    export(tmp_path)
    LoggedDataset({"item_id": np.array([100]), "topic": np.array([1])}).to_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="is not in its table"):
        folder.load(tmp_path)


def test_a_folder_without_tasks_says_so(tmp_path: Path) -> None:
    (export(tmp_path) / "world.json").write_text("{}")
    with pytest.raises(DataError, match="must list the tasks"):
        folder.load(tmp_path)
