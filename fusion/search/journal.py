"""The trials of a running search on disk, a line a batch: after a kill the search replays them and goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Floats
from core.errors import ConfigError


class Journal:
    """Batches of trials, appended and flushed; a torn last line is dropped.

    Args:
        path: The file; None keeps nothing.
        settings: What the search is; another search's journal is refused.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.batches: list[dict[str, Floats]] = []
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = b""
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines):
            try:
                value = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                value = None
            if value is None:
                break
            if number == 0 and value != json.loads(json.dumps(settings)):
                raise ConfigError(f"{str(path)!r} holds the trials of another search; give another folder or delete it")
            if number > 0:
                self.batches.append({name: np.array(rows, dtype=np.float64) for name, rows in value.items()})
            whole += line
        path.write_bytes(whole)
        if not whole:
            self._append(settings)

    def add(self, batch: dict[str, Floats]) -> None:
        """Append a batch; NaN is written as null."""
        self._append({name: _plain(rows) for name, rows in batch.items()})

    def _append(self, value: dict[str, Any]) -> None:
        if self.path is None:
            return
        with self.path.open("ab") as file:
            file.write(json.dumps(value).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _plain(rows: Floats) -> Any:
    plain = rows.astype(object)
    plain[~np.isfinite(rows)] = None
    return plain.tolist()
