"""A log to calibrate to: our own columns, or KuaiRand's files as they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset

NEEDED = ("user_id", "item_id", "scenario", "time_ms", "duration_s", "click", "long_view", "watch_s")
_IDS = {*NEEDED, "complete"}
_KUAIRAND = {
    "is_click": "click",
    "is_like": "like",
    "is_profile_enter": "profile_enter",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "hate",
}


def read_log(path: str | Path) -> LoggedDataset:
    """Impressions in the columns that calibration needs, without duplicates.

    KuaiRand's columns (`video_id`, `is_click`, `play_time_ms`, `tab` ...) are recognised and renamed.

    Raises:
        DataError: A needed column is missing.
    """
    log = LoggedDataset.from_parquet(path)
    if "video_id" in log and "is_click" in log:
        log = _from_kuairand(log)
    missing = [name for name in NEEDED if name not in log]
    if missing:
        raise DataError(
            f"{str(path)!r} has no column {missing[0]!r}; calibration needs {', '.join(NEEDED)} and binary behaviours"
        )
    log.require(NEEDED)
    for name in ("duration_s", "watch_s"):
        if not np.isfinite(log[name]).all() or (log[name] < 0).any():
            raise DataError(f"{str(path)!r}: {name} must be finite and not negative; drop or repair those rows")
    return log


def heads_of(log: LoggedDataset) -> list[str]:
    """The interactions of a log: binary columns beside click, long view and completion, the commonest first."""
    known = ("like", "profile_enter", "follow", "comment", "share", "forward", "purchase", "hate")
    found = [name for name in known if name in log and name not in _IDS and np.nansum(log[name]) >= 10]
    return sorted(found, key=lambda name: -float(np.nanmean(log[name])))


def days_of(log: LoggedDataset, zone_h: float = 8.0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The day number of each row: the log's own `day`, or by `time_ms` `zone_h` hours east of UTC (KuaiRand's zone by
    default)."""
    if "day" in log:
        return log["day"].astype(np.int64)
    return ((log["time_ms"] + int(zone_h * 3.6e6)) // 86_400_000).astype(np.int64)


def with_scenarios(log: LoggedDataset, names: list[str]) -> LoggedDataset:
    """The log with scenarios that are not among `names` called `other`, as the fit does with rare ones."""
    scenario = log["scenario"].astype(str)
    return log.with_columns({"scenario": np.where(np.isin(scenario, names), scenario, "other").astype(object)})


def _from_kuairand(log: LoggedDataset) -> LoggedDataset:
    columns: dict[str, AnyArray] = {new: log[old].astype(np.float64) for old, new in _KUAIRAND.items() if old in log}
    columns |= {"user_id": log["user_id"], "item_id": log["video_id"], "time_ms": log["time_ms"].astype(np.int64)}
    columns |= {"scenario": log["tab"].astype(np.int64).astype(str).astype(object), "long_view": log["long_view"].astype(float)}
    columns |= {"duration_s": log["duration_ms"] / 1000.0, "watch_s": log["play_time_ms"] / 1000.0}
    if "date" in log:
        date = log["date"].astype(np.int64)
        unique = np.unique(date)
        texts = [f"{d // 10000:04d}-{d // 100 % 100:02d}-{d % 100:02d}" for d in unique.tolist()]
        columns["day"] = np.array(texts, "datetime64[D]").astype(np.int64)[np.searchsorted(unique, date)]
    renamed = LoggedDataset(columns)
    numbers = [renamed[name].astype(float) for name in ("user_id", "item_id", "time_ms", "watch_s", "click", "long_view")]
    numbers.append(renamed["scenario"].astype(float))
    _, first = np.unique(np.stack(numbers), axis=1, return_index=True)
    return renamed.take(np.sort(first))
