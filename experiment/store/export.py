"""Parquet exports of old events: a folder that appears whole or not at all and never replaces another."""

from __future__ import annotations

import shutil
from pathlib import Path


def start_export(folder: str | Path | None, before_ms: int) -> Path | None:
    """An empty folder to write to; None when nothing is exported."""
    if folder is None:
        return None
    partial = Path(folder) / f".until_{before_ms}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def finish_export(partial: Path | None, *, empty: bool) -> Path | None:
    """Give the folder its final name, `until_<time>`, or `until_<time>_2` and so on where that exists; an empty one goes.

    A store that dies between this and its commit keeps its rows and exports them again; rows carry their ids, by which a reader
    of several exports drops repeats.
    """
    if partial is None:
        return None
    if empty:
        shutil.rmtree(partial)
        return None
    name = partial.name.removeprefix(".").removesuffix(".partial")
    final, n = partial.with_name(name), 1
    while final.exists():
        n += 1
        final = partial.with_name(f"{name}_{n}")
    partial.rename(final)
    return final
