"""Parquet exports of old events: a folder that appears whole or not at all."""

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


def finish_export(partial: Path | None) -> Path | None:
    """Give the folder its final name; an earlier export of the same time is replaced."""
    if partial is None:
        return None
    final = partial.with_name(partial.name.removeprefix(".").removesuffix(".partial"))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    return final
