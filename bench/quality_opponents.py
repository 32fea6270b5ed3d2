"""The LightGBM opponents: the frozen scripts as they stand, their predictions laid beside our rows, and one single objective."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow.parquet as pq

from bench.harness import opponent
from core.arrays import AnyArray, Floats, Ints
from core.errors import DataError
from core.logs import LoggedDataset
from ranker.recipes import Recipe

KUAIRAND_LABELS = {  # our task name: the opponent's column
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "profile_enter": "is_profile_enter",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
}


def kuairand(data: Path, test: LoggedDataset, work: Path) -> dict[str, Floats] | None:
    """LightGBM's test predictions by our task names, in the order of our rows; None when the script is not there."""
    script = opponent("kuairand_lightgbm.py")
    if script is None:
        return None
    out = work / "kuairand-lightgbm.parquet"
    if not out.is_file():
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        _run([sys.executable, str(script), "--data", str(data), "--out", str(partial)])
        partial.replace(out)
    theirs = LoggedDataset.from_arrow(pq.read_table(out))
    keys_ours = [test["user_id"], test["item_id"], *(test[name] for name in KUAIRAND_LABELS)]
    keys_theirs = [theirs["user_id"], theirs["video_id"], *(theirs[column] for column in KUAIRAND_LABELS.values())]
    rows = align(keys_ours, keys_theirs)
    return {name: theirs[f"lightgbm_{column}"][rows] for name, column in KUAIRAND_LABELS.items()}


def census(data: Path, work: Path) -> Mapping[str, float] | None:
    """LightGBM's test AUC by label, as its script prints it; None when the script is not there."""
    script = opponent("census_lightgbm.py")
    if script is None:
        return None
    kept = work / "census-lightgbm.txt"
    if not kept.is_file():
        kept.write_text(_run([sys.executable, str(script), "--data", str(data)]))
    return parse_aucs(kept.read_text())


def single_objective(recipe: Recipe, kept: Path, *, like: float = 10.0, follow: float = 10.0) -> Floats:
    """One score for everything, as many still rank: LightGBM on our columns, positives clicks, likes and follows.

    Args:
        kept: A file that holds the finished answer, read back when it is there.
        like, follow: How much more a row with one weighs.

    Returns:
        The score on the judged rows `[n]`; rounds are chosen on the validation rows.
    """
    if kept.is_file():
        return np.asarray(np.load(kept), np.float64)
    parts = (recipe.train, recipe.valid, recipe.test)
    names = [f.column for f in recipe.spec.features if not f.listed]
    columns = []
    for name in dict.fromkeys(names):
        whole = np.concatenate([part[name] for part in parts])
        if whole.dtype == object:
            whole = np.unique(["" if value is None else str(value) for value in whole], return_inverse=True)[1]
        columns.append(whole.astype(np.float64))
    table = np.stack(columns, 1)
    label = np.concatenate([np.maximum.reduce([part[t] for t in ("click", "like", "follow")]) for part in parts])
    weight = np.concatenate([1 + like * part["like"] + follow * part["follow"] for part in parts])
    cuts = np.cumsum([len(part) for part in parts])
    rows = slice(0, cuts[0]), slice(cuts[0], cuts[1])
    sets = [lightgbm.Dataset(table[r], label[r], weight=weight[r]) for r in rows]
    settings = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 200, "verbose": -1}
    settings |= {"num_threads": 1, "seed": 0}
    stop = lightgbm.early_stopping(30, verbose=False)
    booster = lightgbm.train(settings, sets[0], 400, valid_sets=[sets[1]], callbacks=[stop])
    found = np.asarray(booster.predict(table[cuts[1] :]), np.float64)
    partial = kept.with_name(f".{os.getpid()}.{kept.name}")
    np.save(partial, found)
    partial.replace(kept)
    return found


def parse_aucs(text: str) -> dict[str, float]:
    """AUC by label from lines such as `y_income50k      AUC 0.9563  trees 300`.

    >>> parse_aucs("y_income50k      AUC 0.9563  trees 300")
    {'y_income50k': 0.9563}
    """
    return {name: float(value) for name, value in re.findall(r"^(\S+)\s+AUC ([0-9.]+)", text, re.MULTILINE)}


def align(ours: list[AnyArray], theirs: list[AnyArray]) -> Ints:
    """For each of our rows, the place of the same row among theirs: equal keys in every column, k-th to k-th occurrence.

    Both sides must be in the order of time, so that rows with the same keys pair up in it.

    Raises:
        DataError: The two sides are not the same rows.

    >>> align([np.array([7, 5, 7]), np.array([0, 1, 1])], [np.array([5, 7, 7]), np.array([1, 1, 0])]).tolist()
    [2, 0, 1]
    """
    n = len(ours[0])
    if n != len(theirs[0]):
        raise DataError(f"{n} judged rows here and {len(theirs[0])} at the opponent; both must judge the same rows")
    here, there = np.lexsort(ours[::-1]), np.lexsort(theirs[::-1])
    for column, other in zip(ours, theirs, strict=True):
        if not np.array_equal(np.asarray(column)[here], np.asarray(other)[there]):
            raise DataError("the judged rows differ from the opponent's in their ids or labels; both must judge the same rows")
    rows = np.empty(n, np.int64)
    rows[here] = there
    return rows


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{Path(command[1]).name} ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
