"""MovieLens: ratings as a regression and as a like (4 stars or more), in any of its three file formats, split by time.

ml-1m: ratings.dat, movies.dat, users.dat with `::` between cells; ml-100k: u.data, u.item, u.user with tabs and bars; later
releases: ratings.csv and movies.csv.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec
from ranker.recipes.base import Recipe

LIKE = 4.0
TASKS = TaskSet([TaskSpec("like"), TaskSpec("rating", "regression", unit_of_measure="stars")])
CONFIG = TrainConfig(epochs=10, patience=2, average=0.999)
GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def load(folder: str | Path, *, dim: int = 8, valid_share: float = 0.1, test_share: float = 0.1) -> Recipe:
    """Rows in time order: the last tenth to judge on, the tenth before it to choose by; of repeated ratings the last."""
    root = Path(folder)
    reader = next((reader for name, reader in _READERS.items() if (root / name).is_file()), None)
    if reader is None:
        raise DataError(f"{str(root)!r} holds none of {', '.join(_READERS)}; give a MovieLens folder")
    try:
        ratings, movies, users = reader(root)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"MovieLens in {str(root)!r} cannot be read: {error}") from error
    ratings = ratings.sort_values("time_s", kind="stable").drop_duplicates(["user_id", "item_id"], keep="last")
    frame = ratings.merge(movies, on="item_id", how="left").merge(users, on="user_id", how="left")
    columns: dict[str, AnyArray] = {str(name): frame[name].to_numpy() for name in frame.columns if name != "genres"}
    columns["genres"] = np.empty(len(frame), object)
    for row, genres in enumerate(frame["genres"]):
        columns["genres"][row] = np.array([g for g in str(genres).split("|") if g], dtype=str)
    columns["time_ms"] = columns.pop("time_s").astype(np.int64) * 1000
    columns["rating"] = columns["rating"].astype(float)
    columns["like"] = (columns["rating"] >= LIKE).astype(float)
    columns["year"] = frame["title"].str.extract(r"\((\d{4})\)\s*$")[0].astype(float).to_numpy()
    log = LoggedDataset({name: column for name, column in columns.items() if name != "title"})
    cuts = [log["time_ms"][int(len(log) * share)] for share in (1 - valid_share - test_share, 1 - test_share)]
    parts = log.split_time(*cuts)
    for name, part in zip(("train", "valid", "test"), parts, strict=True):
        if len(part) == 0:
            raise DataError(f"MovieLens: no {name} rows; there are too few moments to split by time")
    about = [name for name in users.columns if name != "user_id"]
    features = [Feature("user_id", side="user", dim=dim, min_count=5, drop=0.05, missing="fill")]
    features += [Feature(name, side="user", dim=dim, missing="fill") for name in about]
    features += [
        Feature("item_id", dim=dim, min_count=5, drop=0.05, missing="fill"),
        Feature("genres", "multi_hot", dim=dim, max_len=6),
        Feature("year", "dense", transform="piecewise", missing="fill"),
    ]
    return Recipe("movielens", FeatureSpec(features, TASKS), parts[0], parts[1], parts[2], config=CONFIG)


Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
_RATINGS = ["user_id", "item_id", "rating", "time_s"]
_USERS = ["user_id", "gender", "age", "occupation", "zip"]


def _csv(root: Path) -> Frames:
    ratings = pd.read_csv(root / "ratings.csv").set_axis(_RATINGS, axis=1)
    movies = pd.read_csv(root / "movies.csv").set_axis(["item_id", "title", "genres"], axis=1)
    return ratings, movies, pd.DataFrame({"user_id": np.zeros(0, np.int64)})


def _dat(root: Path) -> Frames:
    def read(name: str, columns: list[str]) -> pd.DataFrame:
        return pd.read_csv(root / name, sep="::", names=columns, engine="python", encoding="latin-1")

    movies, users = read("movies.dat", ["item_id", "title", "genres"]), read("users.dat", _USERS)
    return read("ratings.dat", _RATINGS), movies, users.drop(columns="zip")


def _100k(root: Path) -> Frames:
    ratings = pd.read_csv(root / "u.data", sep="\t", names=_RATINGS)
    names = ["item_id", "title", "released", "video", "url", *GENRES_100K]
    table = pd.read_csv(root / "u.item", sep="|", names=names, encoding="latin-1")
    movies = table[["item_id", "title"]].assign(
        genres=[
            "|".join(g for g, there in zip(GENRES_100K, row, strict=True) if there) for row in table[list(GENRES_100K)].to_numpy()
        ]
    )
    users = pd.read_csv(root / "u.user", sep="|", names=["user_id", "age", "gender", "occupation", "zip"])
    return ratings, movies, users.drop(columns="zip")


_READERS = {"ratings.csv": _csv, "ratings.dat": _dat, "u.data": _100k}
