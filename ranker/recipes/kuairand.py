"""KuaiRand-Pure (CIKM 2022): short-video impressions with eight behaviours, and features that know nothing of later rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import linalg

from core.arrays import AnyArray, Floats
from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec, Side
from ranker.recipes.base import Recipe
from ranker.statistics import codes, earlier_rows, smoothed_means

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
BINARY = tuple(LABELS.values())
MAIN = ("click", "long_view", "like", "profile_enter")
FILES = {
    "log": "log_standard_0425_0506.parquet",
    "users": "user_features_pure.csv",
    "items": "video_features_basic_pure.csv",
    "history": "user_sequences_train.parquet",
}
TRAIN_TO, VALID_TO, TEST_TO = 20220502, 20220503, 20220506
CONFIG = TrainConfig(epochs=8, patience=1, evaluations=2, average=0.999, monitor_tasks=MAIN)
FACTORS = 32  # latent factors of the histories
DELAY_MS = 600_000  # an answer counts as known ten minutes after its impression
# what chronological means are taken within, and over which labels
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Side]] = {
    "user": (("user_id",), BINARY, "user"),
    "item": (("item_id",), BINARY, "item"),
    "author": (("author_id",), BINARY, "item"),
    "tag": (("first_tag",), MAIN, "item"),
    "music": (("music_id",), MAIN, "item"),
    "user_tag": (("user_id", "first_tag"), MAIN, "item"),
    "user_length": (("user_id", "length_bin"), MAIN, "item"),
    "user_scenario": (("user_id", "scenario"), MAIN, "request"),
    "item_scenario": (("item_id", "scenario"), MAIN, "item"),
}


def load(
    folder: str | Path,
    *,
    tasks: Sequence[str] = (*BINARY, "watch_s"),
    train_to: int = TRAIN_TO,
    valid_to: int = VALID_TO,
    test_to: int = TEST_TO,
    fresh: str = "moment",
    dim: int = 8,
    ids: bool = False,
) -> Recipe:
    """Rows split by day: learn up to `train_to`, choose up to `valid_to`, judge up to `test_to` (dates as 20220502).

    Fully duplicated rows are dropped. Every statistic of a row counts earlier rows only: of earlier days with `fresh="day"`,
    or with `fresh="moment"` also of the same day up to ten minutes before. Embeddings of video, author and music ids
    (`ids=True`) are left out by default: within eight days a network learns them by heart, and the means above say more.
    """
    frame = features(folder, fresh=fresh)
    spec = spec_for(tasks, dim=dim, ids=ids)
    log = LoggedDataset({str(name): _column(frame[name]) for name in frame.columns})
    train, valid, test, _ = log.split_time(train_to, valid_to, test_to, by="date")
    for name, part in (("train", train), ("valid", valid), ("test", test)):
        if len(part) == 0:
            raise DataError(f"KuaiRand: no {name} rows; the log's days are {sorted(set(log['date'].tolist()))}")
    return Recipe("kuairand", spec, train, valid, test, config=CONFIG)


def spec_for(tasks: Sequence[str] = (*BINARY, "watch_s"), *, dim: int = 8, ids: bool = False) -> FeatureSpec:
    """Content, context, chronological statistics and, on request, ids, by side."""
    chosen = []
    for name in tasks:
        if name == "watch_s":
            chosen.append(TaskSpec("watch_s", "regression", unit_of_measure="s"))
        else:
            chosen.append(TaskSpec(name, goal="down" if name == "hate" else "up"))
    features = [Feature(name, side="user", dim=dim, missing="fill", min_count=20) for name in _USER_IDS]
    features += [Feature(name, "dense", "user", transform="log1p") for name in _USER_NUMBERS]
    features += [
        Feature("scenario", side="request", dim=dim),
        Feature("hour", side="request", dim=dim, vocabulary="range", size=24),
        Feature("since_last", "dense", "request", transform="piecewise", missing="fill"),
        Feature("n_today", "dense", "request", transform="log1p"),
        *(Feature(f"last_{name}", "dense", "request", transform="none") for name in MAIN),
    ]
    features += [Feature(name, dim=dim, missing="fill", min_count=20) for name in (*(_IDS if ids else ()), *_ITEM_KINDS)]
    features.append(Feature("tags", "multi_hot", dim=dim, max_len=4))
    features += [Feature(name, "dense", transform="piecewise", missing="fill") for name in _ITEM_NUMBERS]
    for group, (_, labels, side) in GROUPS.items():
        for label in (*labels, "watched"):
            features.append(Feature(f"{group}_{label}", "dense", side))
        features.append(Feature(f"{group}_n", "dense", side, transform="log1p"))
    features += [Feature(name, "dense", transform="log1p") for name in _MATCHES]
    features += [Feature(f"taste_{seq}", "dense") for seq in _SEQUENCES]
    return FeatureSpec(features, TaskSet(chosen), scenario="scenario")


_USER_IDS = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{i}" for i in range(18)),
)
_USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days", "history_len")
_IDS = ("item_id", "author_id", "music_id")
_ITEM_KINDS = ("video_type", "upload_type", "music_type", "first_tag")
_ITEM_NUMBERS = ("video_duration", "server_width", "server_height", "age_days")
_SEQUENCES = ("watch", "like", "long")
_MATCHES = tuple(f"{what}_in_{seq}" for what in ("item", "author", "tag") for seq in _SEQUENCES)


def features(folder: str | Path, *, fresh: str = "moment") -> pd.DataFrame:
    """The log in time order with all features beside it; row by row, only what was known before."""
    if fresh not in ("day", "moment"):
        raise DataError(f"fresh {fresh!r} is not one of day, moment")
    raw = {name: _read(Path(folder) / file) for name, file in FILES.items()}
    log = raw["log"].drop_duplicates().rename(columns={**LABELS, "video_id": "item_id", "tab": "scenario"})
    log = log.sort_values("time_ms", kind="stable").reset_index(drop=True)
    items = raw["items"].rename(columns={"video_id": "item_id"})
    items["tag"] = items["tag"].fillna("")
    items["first_tag"] = items["tag"].str.split(",").str[0]
    frame = log.merge(items, on="item_id", how="left").merge(raw["users"], on="user_id", how="left")
    frame = frame.merge(raw["history"][["user_id", "history_len"]], on="user_id", how="left")
    frame["history_len"] = frame["history_len"].fillna(0)
    frame["hour"] = frame["hourmin"] // 100
    frame["watch_s"] = frame["play_time_ms"] / 1000.0
    frame["length_bin"] = np.digitize(frame["duration_ms"], [7_000, 12_000, 20_000, 40_000, 80_000, 160_000])
    frame["position"] = 1
    day = pd.to_datetime(frame["date"].astype(str))
    frame["age_days"] = (day - pd.to_datetime(frame["upload_dt"])).dt.days.astype(float)
    frame["tags"] = frame["tag"].fillna("").str.split(",")
    new = statistics(frame, fresh) | recency(frame) | matches(frame, items, raw["history"]) | taste(frame, raw["history"])
    return pd.concat([frame, pd.DataFrame(new)], axis=1)


def statistics(frame: pd.DataFrame, fresh: str = "moment") -> dict[str, Floats]:
    """Smoothed means within each group over earlier rows, as log-odds for labels, with their counts."""
    time = (frame["date"] if fresh == "day" else frame["time_ms"]).to_numpy()
    until = time if fresh == "day" else time - DELAY_MS
    watched = np.minimum(frame["play_time_ms"].to_numpy(float) / np.maximum(frame["duration_ms"].to_numpy(float), 1000), 2.0)
    first = frame["date"].to_numpy() <= TRAIN_TO
    found: dict[str, Floats] = {}
    for group, (keys, labels, _) in GROUPS.items():
        values = np.concatenate([frame[list(labels)].to_numpy(float), watched[:, None]], 1)
        prior = values[first].mean(0)
        key = codes(*(frame[name].to_numpy() for name in keys))
        mean, n = smoothed_means(key, time, values, until, prior=prior)
        for at, label in enumerate(labels):
            found[f"{group}_{label}"] = np.log(mean[:, at] / (1 - mean[:, at]))
        found[f"{group}_watched"] = mean[:, -1]
        found[f"{group}_n"] = n
    return found


def recency(frame: pd.DataFrame) -> dict[str, Floats]:
    """What the user last did: seconds since, the last labels, and impressions so far today."""
    user, time = codes(frame["user_id"].to_numpy()), frame["time_ms"].to_numpy()
    last = earlier_rows(user, time, time - DELAY_MS, 1)[:, 0]
    known = last >= 0
    found: dict[str, Floats] = {"since_last": np.where(known, np.log1p(np.maximum(time - time[last], 0) / 1000.0), np.nan)}
    for name in MAIN:
        found[f"last_{name}"] = np.where(known, frame[name].to_numpy(float)[last], 0.0)
    today = codes(frame["user_id"].to_numpy(), frame["date"].to_numpy())
    found["n_today"] = smoothed_means(today, time, np.zeros((len(time), 1)), time - DELAY_MS, prior=np.zeros(1))[1]
    return found


def matches(frame: pd.DataFrame, items: pd.DataFrame, history: pd.DataFrame) -> dict[str, Floats]:
    """How often the item, its author and its tag occur in what the user watched, liked and watched long before the log begins."""
    of_item = {"item": items["item_id"], "author": items["author_id"], "tag": items["first_tag"]}
    found: dict[str, Floats] = {}
    for seq in _SEQUENCES:
        opened = _opened(history, seq)
        for what, values in of_item.items():
            value = opened["item_id"].map(dict(zip(items["item_id"], values, strict=True)))
            column = {"item": "item_id", "author": "author_id", "tag": "first_tag"}[what]
            counts = pd.DataFrame({"user_id": opened["user_id"], column: value}).value_counts().rename("n").reset_index()
            joined = frame[["user_id", column]].merge(counts, on=["user_id", column], how="left")
            found[f"{what}_in_{seq}"] = joined["n"].fillna(0).to_numpy(float)
    return found


def taste(frame: pd.DataFrame, history: pd.DataFrame) -> dict[str, Floats]:
    """Cosine of the item to what the user watched, liked, watched long: latent factors of the histories before the log begins."""
    opened = {seq: _opened(history, seq) for seq in _SEQUENCES}
    users = {user: at for at, user in enumerate(history["user_id"])}
    n_items = int(max(frame["item_id"].max(), *(part["item_id"].max() for part in opened.values()))) + 1
    matrices = {}
    for seq, part in opened.items():
        place = (part["user_id"].map(users).to_numpy(), part["item_id"].to_numpy())
        matrices[seq] = sparse.csr_matrix((np.ones(len(part)), place), (len(history), n_items))
    seen = matrices["watch"] + matrices["long"]
    seen.data = np.log1p(seen.data)
    seen = sparse.csr_matrix(seen @ sparse.diags(1 / np.sqrt(np.asarray(seen.sum(0)).ravel() + 10)))  # popular items say less
    start = np.random.default_rng(0).normal(size=min(seen.shape))
    factors = np.asarray(linalg.svds(seen, FACTORS, v0=start)[2]).T  # (items, FACTORS)
    factors /= np.linalg.norm(factors, axis=1, keepdims=True) + 1e-9
    user, item = frame["user_id"].map(users), frame["item_id"].to_numpy()
    known, row = user.notna().to_numpy(), user.fillna(0).to_numpy(int)
    found: dict[str, Floats] = {}
    for seq, matrix in matrices.items():
        mean = np.asarray(matrix @ factors)  # (users, FACTORS)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9
        found[f"taste_{seq}"] = np.where(known, (mean[row] * factors[item]).sum(1), 0.0)
    return found


def _opened(history: pd.DataFrame, seq: str) -> pd.DataFrame:
    """One row an entry of a history: user_id, item_id."""
    column = "long_watch_seq" if seq == "long" else f"{seq}_seq"
    opened = history[["user_id", column]].set_axis(["user_id", "item_id"], axis=1).explode("item_id")
    return opened.dropna().astype({"item_id": "int64"})


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
