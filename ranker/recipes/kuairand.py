"""KuaiRand-Pure (CIKM 2022): short-video impressions with eight behaviours, and features that know nothing of later rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec, Missing, Side
from ranker.recipes.base import Recipe
from ranker.recipes.kuairand_known import BINARY, COLUMNS, MAIN, known

__all__ = [
    "BINARY",
    "CONFIG",
    "FILES",
    "LABELS",
    "MAIN",
    "OPTIONS",
    "OWN",
    "TEST_TO",
    "TRAIN_TO",
    "VALID_TO",
    "features",
    "load",
    "spec_for",
]

LABELS = {
    "is_click": "click",
    "long_view": "long_view",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_profile_enter": "profile_enter",
    "is_hate": "hate",
}
FILES = {
    "log": "log_standard_0425_0506.parquet",
    "users": "user_features_pure.csv",
    "items": "video_features_basic_pure.csv",
    "history": "user_sequences_train.parquet",
}
TRAIN_TO, VALID_TO, TEST_TO = 20220502, 20220503, 20220506
CONFIG = TrainConfig(epochs=4, batch_size=512, learning_rate=2e-3, patience=1, evaluations=2, average=0.999, monitor_tasks=MAIN)
OPTIONS = {"hidden": (64, 32), "dropout": 0.3, "members": 3}
OWN: Mapping[str, Mapping[str, Any]] = {
    "ple": {"dropout": 0.15},  # two levels learn slowly under more
    "aesm2": {"scenarios": [], "hidden": [64, 32]},  # experts are chosen by task alone: a choice by scenario costs too many rows
    "din": {"base": "mmoe"},  # one body for all tasks is too small, with interests or without
    "dupn": {"n_hidden": 64, "n_attention": 32, "n_rep": 64},  # as wide as the others; its own widths take twice as long
}
STEPS = 5  # quantile steps a number


def load(
    folder: str | Path,
    *,
    tasks: Sequence[str] = (*BINARY, "watch_s"),
    train_to: int = TRAIN_TO,
    valid_to: int = VALID_TO,
    test_to: int = TEST_TO,
    fresh: str = "moment",
    dim: int = 4,
    ids: bool = False,
) -> Recipe:
    """Rows split by day: learn up to `train_to`, choose up to `valid_to`, judge up to `test_to` (dates as 20220502).

    Fully duplicated rows are dropped. Every statistic of a row counts earlier rows only: a user's own answers from the next day
    on; others' with `fresh="day"` likewise, with `fresh="moment"` up to ten minutes before. Embeddings of video, author and
    music ids (`ids=True`) are left out by default: within eight days a network learns them by heart, and the rates say more.
    """
    frame = features(folder, train_to=train_to, fresh=fresh)
    spec = spec_for(tasks, dim=dim, ids=ids)
    log = LoggedDataset({str(name): _column(frame[name]) for name in frame.columns})
    train, valid, test, _ = log.split_time(train_to, valid_to, test_to, by="date")
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(f"KuaiRand: no {name} rows; the log's days are {sorted(set(log['date'].tolist()))}")
    return Recipe("kuairand", spec, train, valid, test, config=CONFIG, options=OPTIONS, own=OWN)


def spec_for(tasks: Sequence[str] = (*BINARY, "watch_s"), *, dim: int = 4, ids: bool = False) -> FeatureSpec:
    """Content, context, what was known before and, on request, ids, by side."""
    chosen = []
    for name in tasks:
        if name == "watch_s":
            chosen.append(TaskSpec("watch_s", "regression", unit_of_measure="s"))
        else:
            chosen.append(TaskSpec(name, goal="down" if name == "hate" else "up"))
    features = [Feature(name, side="user", dim=dim, missing="fill", min_count=20) for name in _USER_IDS]
    features += [_number(name, "user") for name in _USER_NUMBERS]
    features += [
        Feature("scenario", side="request", dim=dim),
        Feature("hour", side="request", dim=dim, vocabulary="range", size=24),
        _number("since_last", "request"),
        _number("n_today", "request"),
    ]
    features += [Feature(name, dim=dim, missing="fill", min_count=20) for name in (*(_IDS if ids else ()), *_ITEM_KINDS)]
    features.append(Feature("tags", "multi_hot", dim=dim, max_len=4))
    features += [_number(name) for name in _ITEM_NUMBERS]
    features += [_number(name, side) for name, side in COLUMNS.items() if name not in ("since_last", "n_today")]
    return FeatureSpec(features, TaskSet(chosen), scenario="scenario")


def _number(name: str, side: Side = "item") -> Feature:
    """Piecewise linear in quantiles: counts grow by the day, and nothing is extrapolated beyond the training rows' values."""
    missing: Missing = "fill" if name == "since_last" or name in _ITEM_NUMBERS else "error"
    return Feature(name, "dense", side, transform="piecewise", steps=STEPS, missing=missing)


_USER_IDS = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{i}" for i in range(18)),
)
_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_IDS = ("item_id", "author_id", "music_id")
_ITEM_KINDS = ("video_type", "upload_type", "music_type", "first_tag")
_ITEM_NUMBERS = ("video_duration", "server_width", "server_height", "age_days")


def features(folder: str | Path, *, train_to: int = TRAIN_TO, fresh: str = "moment") -> pd.DataFrame:
    """The log in time order with all features beside it; row by row, only what was known before.

    Overall rates and the strengths of smoothing are those of the rows up to `train_to`.
    """
    if fresh not in ("day", "moment"):
        raise DataError(f"fresh {fresh!r} is not one of day, moment")
    raw = {name: _read(Path(folder) / file) for name, file in FILES.items()}
    log = raw["log"].drop_duplicates().rename(columns={**LABELS, "video_id": "item_id", "tab": "scenario"})
    log = log.sort_values("time_ms", kind="stable").reset_index(drop=True)
    items = raw["items"].rename(columns={"video_id": "item_id"})
    items["tag"] = items["tag"].fillna("")
    items["first_tag"] = items["tag"].str.split(",").str[0]
    frame = log.merge(items, on="item_id", how="left").merge(raw["users"], on="user_id", how="left")
    frame["hour"] = frame["hourmin"] // 100
    frame["watch_s"] = frame["play_time_ms"] / 1000.0
    frame["length_bin"] = np.digitize(frame["duration_ms"], [7_000, 12_000, 20_000, 40_000, 80_000, 160_000])
    frame["position"] = 1
    day = pd.to_datetime(frame["date"].astype(str))
    frame["age_days"] = (day - pd.to_datetime(frame["upload_dt"])).dt.days.astype(float)
    frame["tags"] = frame["tag"].fillna("").str.split(",")
    new = known(frame, items, raw["history"], train_to=train_to, fresh=fresh)
    return pd.concat([frame, pd.DataFrame(new)], axis=1)


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"KuaiRand: no file {str(path)!r}; its folder needs {', '.join(FILES.values())}")
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _column(series: pd.Series) -> AnyArray:
    """A numpy column; text as object, holes as NaN or None."""
    if series.dtype == object or not pd.api.types.is_numeric_dtype(series):
        out = np.empty(len(series), object)
        out[:] = [np.asarray(v) if isinstance(v, list) else None if v is None or v != v else v for v in series]
        return out
    return series.to_numpy()
