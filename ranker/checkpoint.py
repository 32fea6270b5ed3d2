"""Checkpoints of a training run: one file an epoch, written whole or not at all, so that a killed run goes on where it was."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import torch

from core.errors import ArtefactError, ConfigError


class Checkpoints:
    """The newest state of one run in a folder; `run` says which run, and another run's checkpoint is refused."""

    def __init__(self, folder: str | Path, run: dict[str, Any]) -> None:
        self.path = Path(folder) / "checkpoint.pt"
        self.run = json.dumps(run, sort_keys=True, default=str)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint by this state (tensors and plain values)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save({"run": self.run, "state": state}, content)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(content.getvalue())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """The last state, or None when there is none.

        Raises:
            ConfigError: It belongs to another run (other data, settings or seed).
            ArtefactError: It is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, weights_only=True)  # tensors and plain values only: nothing is executed
            run, state = content["run"], content["state"]
        except Exception as error:
            raise ArtefactError(f"checkpoint {str(self.path)!r} is damaged; remove it to train from the start") from error
        if run != self.run:
            raise ConfigError(
                f"checkpoint {str(self.path)!r} is of a run with other data, settings or seed; choose another folder"
            )
        found: dict[str, Any] = state
        return found
