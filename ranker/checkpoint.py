"""Checkpoints of a training run: tensors and plain values as torch writes them, in one file of the run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from core.checkpoint import Checkpoint


class Checkpoints:
    """The newest state of one run in a folder; `run` says which run, and another run's checkpoint is refused."""

    def __init__(self, folder: str | Path, run: dict[str, Any]) -> None:
        self._kept = Checkpoint(Path(folder) / "checkpoint.pt", run)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by this state."""
        content = io.BytesIO()
        torch.save(state, content)
        self._kept.save(content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The last state, or None when there is none; see `core.checkpoint.Checkpoint.load` for what is refused."""
        content = self._kept.load()
        if content is None:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)  # nothing in it is executed
        return state
