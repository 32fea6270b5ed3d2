"""What was known about a KuaiRand row before it: rates of its user, item, author ... so far, and the histories before the log.

A user's own answers count from the next day on, never within the day: what he answered minutes ago says little of what he
likes, and pulls against his later answers of the same day. Everybody's answers to an item count ten minutes later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import linalg

from core.arrays import AnyArray, Floats, Ints
from ranker.features import Side
from ranker.statistics import best_strengths, codes, earlier_rows, earlier_sums, lifts

MAIN = ("click", "long_view", "like", "profile_enter")
BINARY = ("click", "long_view", "like", "follow", "comment", "forward", "profile_enter", "hate")
SEQUENCES = {"watch": "watch_seq", "like": "like_seq", "long": "long_watch_seq"}
OF_ITEM = {"item": "item_id", "tag": "first_tag"}
FACTORS = 32  # latent factors of the histories
DELAY_MS = 600_000  # an answer counts as known ten minutes after its impression
STRENGTHS = np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])  # in expected events


@dataclass(frozen=True)
class Group:
    """Rows that share the keys; `over` names the group whose foretold rates lifts are measured against ("": the overall ones)."""

    keys: tuple[str, ...]
    labels: tuple[str, ...]
    side: Side
    over: str = ""


# each group foretells from those before it: a scenario's rate, times the item's lift, times the user's lift, times ...
GROUPS: dict[str, Group] = {
    "scenario": Group(("scenario",), MAIN, "request"),
    "author": Group(("author_id",), MAIN, "item", "scenario"),
    "tag": Group(("first_tag",), MAIN, "item", "scenario"),
    "item": Group(("item_id",), BINARY, "item", "author"),
    "item_scenario": Group(("item_id", "scenario"), MAIN, "item", "item"),
    "user": Group(("user_id",), BINARY, "user", "item"),
    "user_scenario": Group(("user_id", "scenario"), MAIN, "request", "user"),
    "user_tag": Group(("user_id", "first_tag"), MAIN, "item", "user"),
    "user_length": Group(("user_id", "length_bin"), MAIN, "item", "user"),
}
PLAIN: tuple[str, ...] = ("user", "item", "author")  # groups whose plain rates stand beside their lifts
COLUMNS: dict[str, Side] = {  # every column made here, and whose it is
    **{f"{name}_{what}": group.side for name, group in GROUPS.items() for what in (*group.labels, "n")},
    **{f"{name}_{what}": GROUPS[name].side for name in PLAIN for what in (*(f"mean_{label}" for label in MAIN), "watched")},
    **{f"expected_{label}": "item" for label in MAIN},
    "since_last": "request",
    "n_today": "request",
    **{f"user_before_{what}": "user" for what in (*SEQUENCES, "like_rate", "long_rate")},
    **{f"{name}_before_{what}": "item" for name in OF_ITEM for what in (*SEQUENCES, "like_rate", "long_rate")},
    **{f"tag_in_{seq}": "item" for seq in SEQUENCES},
    **{f"taste_{seq}": "item" for seq in SEQUENCES},
}


def known(
    frame: pd.DataFrame, items: pd.DataFrame, history: pd.DataFrame, *, train_to: int, fresh: str = "moment"
) -> dict[str, Floats]:
    """Every column of this file, `[n]` each, for a log in the order of time."""
    return rates(frame, train_to, fresh) | session(frame) | before(frame, items, history) | taste(frame, history)


def rates(frame: pd.DataFrame, train_to: int, fresh: str = "moment") -> dict[str, Floats]:
    """Lifts of each group over what it is measured against (as logarithms), plain rates of user, item and author, and counts.

    Strengths are those that foretell the rows up to `train_to` best, each from earlier rows.
    """
    first = frame["date"].to_numpy() <= train_to
    names = list(BINARY)
    labels = {name: frame[name].to_numpy(float) for name in names}
    overall = {name: np.full(len(frame), labels[name][first].mean()) for name in names}
    foretold: dict[str, dict[str, Floats]] = {"": overall}
    found: dict[str, Floats] = {}
    for name, group in GROUPS.items():
        own = "user_id" in group.keys
        time = frame["date" if own or fresh == "day" else "time_ms"].to_numpy()
        until = time if own or fresh == "day" else time - DELAY_MS
        key = codes(*(frame[column].to_numpy() for column in group.keys))
        over = foretold[group.over] | {label: overall[label] for label in group.labels if label not in foretold[group.over]}
        y, e = (np.stack([of[label] for label in group.labels], 1) for of in (labels, over))
        strength = best_strengths(key, time, until, y, e, candidates=STRENGTHS, rows=first)
        lift, n = lifts(key, time, until, y, e, strength=strength)
        foretold[name] = dict(zip(group.labels, np.clip(e * lift, 1e-5, 0.99).T, strict=True))
        for at, label in enumerate(group.labels):
            found[f"{name}_{label}"] = np.log(lift[:, at])
        found[f"{name}_n"] = n
        if name in PLAIN:
            found |= _plain(name, frame, key, time, until, labels, overall, n)
    for label in MAIN:
        p = foretold["user"][label]
        found[f"expected_{label}"] = np.log(p / (1 - p))
    return found


def _plain(
    name: str,
    frame: pd.DataFrame,
    key: Ints,
    time: AnyArray,
    until: AnyArray,
    labels: dict[str, Floats],
    overall: dict[str, Floats],
    n: Floats,
) -> dict[str, Floats]:
    """Smoothed means as log-odds, and the mean share of the video that was watched."""
    watched = np.minimum(frame["play_time_ms"].to_numpy(float) / np.maximum(frame["duration_ms"].to_numpy(float), 1000), 2.0)
    sums, _ = earlier_sums(key, time, np.stack([*(labels[label] for label in MAIN), watched], 1), until)
    found = {f"{name}_watched": (sums[:, -1] + 20 * 0.5) / (n + 20)}
    for at, label in enumerate(MAIN):
        p = (sums[:, at] + 20 * overall[label]) / (n + 20)
        found[f"{name}_mean_{label}"] = np.log(p / (1 - p))
    return found


def session(frame: pd.DataFrame) -> dict[str, Floats]:
    """Seconds since the user's last impression, and his impressions so far today: no answers among them."""
    user, time = codes(frame["user_id"].to_numpy()), frame["time_ms"].to_numpy()
    last = earlier_rows(user, time, time, 1)[:, 0]
    since = np.where(last >= 0, np.log1p(np.maximum(time - time[last], 0) / 1000.0), np.nan)
    today = codes(frame["user_id"].to_numpy(), frame["date"].to_numpy())
    return {"since_last": since, "n_today": earlier_sums(today, time, np.zeros((len(time), 1)), time)[1]}


def before(frame: pd.DataFrame, items: pd.DataFrame, history: pd.DataFrame) -> dict[str, Floats]:
    """The histories of before the log: how often the user did what, everybody with the item and its tag, and he with the tag."""
    found: dict[str, Floats] = {}
    of_item = items.drop_duplicates("item_id").set_index("item_id")
    for seq in SEQUENCES:
        opened = _opened(history, seq)
        counts = opened["user_id"].value_counts()
        found[f"user_before_{seq}"] = np.asarray(frame["user_id"].map(counts).fillna(0), float)
        for what, column in OF_ITEM.items():
            values = opened["item_id"] if what == "item" else opened["item_id"].map(of_item[column])
            found[f"{what}_before_{seq}"] = np.asarray(frame[column].map(values.value_counts()).fillna(0), float)
        pairs = opened.assign(first_tag=values)[["user_id", "first_tag"]].value_counts().rename("n").reset_index()
        joined = frame[["user_id", "first_tag"]].merge(pairs, on=["user_id", "first_tag"], how="left")
        found[f"tag_in_{seq}"] = joined["n"].fillna(0).to_numpy(float)
    for what in ("user", *OF_ITEM):
        for seq in ("like", "long"):
            many, few = found[f"{what}_before_watch"], found[f"{what}_before_{seq}"]
            found[f"{what}_before_{seq}_rate"] = np.log((few + 1) / (many + 5))
    return found


def taste(frame: pd.DataFrame, history: pd.DataFrame) -> dict[str, Floats]:
    """Cosine of the item to what the user watched, liked, watched long: latent factors of the histories before the log begins."""
    opened = {seq: _opened(history, seq) for seq in SEQUENCES}
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
    there, row = user.notna().to_numpy(), user.fillna(0).to_numpy(int)
    found: dict[str, Floats] = {}
    for seq, matrix in matrices.items():
        mean = np.asarray(matrix @ factors)  # (users, FACTORS)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9
        found[f"taste_{seq}"] = np.where(there, (mean[row] * factors[item]).sum(1), 0.0)
    return found


def _opened(history: pd.DataFrame, seq: str) -> pd.DataFrame:
    """One row an entry of a history: user_id, item_id."""
    opened = history[["user_id", SEQUENCES[seq]]].set_axis(["user_id", "item_id"], axis=1).explode("item_id")
    return opened.dropna().astype({"item_id": "int64"})
