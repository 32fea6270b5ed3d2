"""The state of a training run in one file, replaced whole or not at all, so that a killed run goes on where it was."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.errors import ArtefactError, ConfigError


class Checkpoint:
    """`checkpoint.pt` in a folder, of the run that `run` describes; another run's is refused."""

    def __init__(self, folder: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(folder) / "checkpoint.pt"
        self.run = json.dumps(run, sort_keys=True, default=str)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by this state: tensors and plain values."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save({"run": self.run, "state": dict(state)}, content)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(content.getvalue())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """The last state; None when there is none.

        Raises:
            ConfigError: It belongs to a run with other data, settings or seed.
            ArtefactError: It is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, weights_only=True)  # tensors and plain values only: nothing is executed
            run, state = content["run"], content["state"]
        except Exception as error:  # whatever torch makes of a broken file, it is one clear error
            raise ArtefactError(f"checkpoint {str(self.path)!r} is damaged; remove it to train from the start") from error
        if run != self.run:
            raise ConfigError(
                f"checkpoint {str(self.path)!r} is of a run with other data, settings or seed; choose another folder"
            )
        found: dict[str, Any] = state
        return found
