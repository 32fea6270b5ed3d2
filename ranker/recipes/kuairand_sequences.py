"""Behaviour sequences for KuaiRand: what each user did before a row, and how: scenario, age, kind; for din, dupn and cnn_max."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.arrays import AnyArray, Ints
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec
from ranker.recipes.base import Recipe
from ranker.recipes.kuairand import FILES
from ranker.recipes.kuairand_known import DELAY_MS

AGES_MS = (60_000, 300_000, 1_800_000, 7_200_000, 86_400_000, 259_200_000, 604_800_000)
AGE_NAMES = ("<1 min", "<5 min", "<30 min", "<2 h", "<1 d", "<3 d", "<1 w", "older")
ITEM_PARTS = ("item_id", "author_id", "music_id", "first_tag", "length_bin")
KINDS = ("click", "long", "like")
DEGREES = 9


def with_sequences(recipe: Recipe, folder: str | Path, *, length: int = 20, dim: int = 16) -> Recipe:
    """The recipe with sequences of the user's last behaviours beside every row, those of before the first day included.

    A row sees behaviours that were known ten minutes before it. Item parts (`past_item_id`, `past_author_id` ...) share
    the rows of the item's features, which are added where the recipe leaves them out; `past_scenario`, `past_age` and
    `past_kind` are the properties.
    """
    root = Path(folder)
    items = pd.read_csv(root / FILES["items"]).rename(columns={"video_id": "item_id"}).drop_duplicates("item_id")
    history = pd.read_parquet(root / FILES["history"])
    parts = (recipe.train, recipe.valid, recipe.test)
    names = ("user_id", "item_id", "time_ms", "scenario", "click", "long_view", "like")
    log = pd.DataFrame({name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in names})
    events = pd.concat([_before(history), _during(log)], ignore_index=True)
    events = events.merge(_item_parts(items), on="item_id", how="left")
    logs = [part.with_columns(_beside(part, events, items, length)) for part in parts]
    return replace(recipe, spec=_spec(recipe.spec, length, dim), train=logs[0], valid=logs[1], test=logs[2])


def user_degree(log: LoggedDataset) -> Ints:
    """`user_active_degree` as classes 0..8, for a user-level multiclass task (what purchasing power is in a shop)."""
    names = np.unique(np.asarray(log["user_active_degree"], str))
    return np.minimum(np.searchsorted(names, np.asarray(log["user_active_degree"], str)), DEGREES - 1).astype(np.int64)


def latest(row_user: Ints, row_time: Ints, event_user: Ints, event_time: Ints, length: int) -> tuple[Ints, Ints]:
    """For each row the places of its user's last `length` events at or before its time, oldest first, and their number.

    Args:
        row_user, row_time: `[n]`.
        event_user, event_time: `[m]`, sorted by user, then time.

    Returns:
        Places among the events, all rows' joined, and how many each row has, `[n]`.

    >>> places, n = latest(np.array([1, 1, 2]), np.array([5, 9, 9]), np.array([1, 1, 1]), np.array([3, 5, 7]), 2)
    >>> places.tolist(), n.tolist()
    ([0, 1, 1, 2], [2, 2, 0])
    """
    base = min(int(row_time.min(initial=0)), int(event_time.min(initial=0)))
    span = max(int(row_time.max(initial=0)), int(event_time.max(initial=0))) - base + 2
    key = event_user * span + (event_time - base)
    stop = np.searchsorted(key, row_user * span + (row_time - base), side="right")
    start = np.maximum(np.searchsorted(key, row_user * span, side="left"), stop - length)
    n = stop - start
    at = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return np.repeat(start, n) + at, n


def _beside(part: LoggedDataset, events: pd.DataFrame, items: pd.DataFrame, length: int) -> dict[str, AnyArray]:
    """The sequence columns of one log, and the item parts it lacks."""
    code = np.unique(np.r_[events["user_id"].to_numpy(), part["user_id"]], return_inverse=True)[1]
    event_user, row_user = code[: len(events)].astype(np.int64), code[len(events) :].astype(np.int64)
    order = np.lexsort((events["time_ms"].to_numpy(), event_user))
    time = events["time_ms"].to_numpy(np.int64)[order]
    now = np.asarray(part["time_ms"], np.int64)
    places, n = latest(row_user, now - DELAY_MS, event_user[order], time, length)
    cuts = np.cumsum(n)[:-1]
    columns: dict[str, AnyArray] = {}
    for name in (*ITEM_PARTS, "scenario", "kind"):
        columns[f"past_{name}"] = _lists(events[name].to_numpy()[order][places], cuts)
    age = np.searchsorted(AGES_MS, np.repeat(now, n) - time[places], side="right")
    columns["past_age"] = _lists(np.array(AGE_NAMES)[age], cuts)
    known = _item_parts(items).set_index("item_id").reindex(part["item_id"])
    for name in ITEM_PARTS[1:]:
        columns[name] = known[name].to_numpy()
    return columns


def _item_parts(items: pd.DataFrame) -> pd.DataFrame:
    seconds = items["video_duration"].fillna(0).to_numpy() / 1000
    found = {
        "item_id": items["item_id"].to_numpy(np.int64),
        "author_id": items["author_id"].fillna(-1).to_numpy(np.int64),
        "music_id": items["music_id"].fillna(-1).to_numpy(np.int64),
        "first_tag": items["tag"].fillna("").astype(str).str.split(",").str[0].to_numpy(str),
        "length_bin": np.digitize(seconds, [7, 12, 20, 40, 80, 160]),
    }
    return pd.DataFrame(found)


def _before(history: pd.DataFrame) -> pd.DataFrame:
    """The behaviours of before the log; their times are unknown, so they get the user's last one, in order."""
    watched = history["watch_seq"].map(len).to_numpy()
    user = np.repeat(history["user_id"].to_numpy(), watched)
    item = np.concatenate([np.asarray(v, np.int64) for v in history["watch_seq"]])
    kind = np.full(len(item), KINDS[0], dtype="<U8")
    pair = pd.MultiIndex.from_arrays([user, item])
    for column, name in (("long_watch_seq", KINDS[1]), ("like_seq", KINDS[2])):
        counts = history[column].map(len).to_numpy()
        values = np.concatenate([np.asarray(v, np.int64) for v in history[column]])
        kind[pair.isin(pd.MultiIndex.from_arrays([np.repeat(history["user_id"].to_numpy(), counts), values]))] = name
    place = np.arange(len(item)) - np.repeat(np.cumsum(watched), watched)  # below 0, the last one -1
    time = np.repeat(history["last_time_ms"].to_numpy(np.int64), watched) + place
    return pd.DataFrame({"user_id": user, "item_id": item, "time_ms": time, "scenario": -1, "kind": kind})


def _during(log: pd.DataFrame) -> pd.DataFrame:
    """The log's rows that are behaviours, each by the strongest thing done."""
    done = log[(log["click"] > 0) | (log["long_view"] > 0) | (log["like"] > 0)]
    kind = np.where(done["like"] > 0, KINDS[2], np.where(done["long_view"] > 0, KINDS[1], KINDS[0]))
    return done[["user_id", "item_id", "time_ms", "scenario"]].assign(kind=kind)


def _spec(spec: FeatureSpec, length: int, dim: int) -> FeatureSpec:
    present = {f.name: f for f in spec.features}
    added = [Feature(name, dim=dim, min_count=10, missing="fill") for name in ITEM_PARTS if name not in present]
    by_name = present | {f.name: f for f in added}

    def past(name: str, width: int, shares: str | None = None) -> Feature:
        return Feature(
            f"past_{name}", "sequence", "user", dim=width, shares=shares, max_len=length, pooling="none", missing="fill"
        )

    added += [past(name, by_name[name].dim, name) for name in ITEM_PARTS]
    added += [past(name, dim) for name in ("scenario", "age", "kind")]
    return _with(spec, added, spec.tasks)


def with_degree(recipe: Recipe) -> Recipe:
    """The recipe with the user-level task `degree`, and without the feature that is its label."""
    task = TaskSpec("degree", "multiclass", "user", n_classes=DEGREES)
    kept = [f for f in recipe.spec.features if f.column != "user_active_degree"]
    spec = _with(recipe.spec, [], TaskSet([*recipe.spec.tasks, task]), kept)
    logs = [part.with_columns({"degree": user_degree(part)}) for part in (recipe.train, recipe.valid, recipe.test)]
    return replace(recipe, spec=spec, train=logs[0], valid=logs[1], test=logs[2])


def _with(spec: FeatureSpec, added: Sequence[Feature], tasks: TaskSet, kept: Sequence[Feature] | None = None) -> FeatureSpec:
    features = [*(spec.features if kept is None else kept), *added]
    return FeatureSpec(
        features, tasks, user=spec.user, item=spec.item, time=spec.time, scenario=spec.scenario, weight=spec.weight
    )


def _lists(values: AnyArray, cuts: Ints) -> AnyArray:
    parts = np.split(values, cuts)
    column = np.empty(len(parts), object)
    column[:] = parts
    return column
