"""The state of a long run in one file, replaced whole or not at all, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.artefacts import write_whole
from core.errors import ArtefactError, ConfigError


class Checkpoint:
    """One file of the run that `run` describes: a line of JSON with the run and the content's sha256, then the content.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     kept = Checkpoint(f"{folder}/state", {"seed": 1})
    ...     kept.save(b"step 7")
    ...     Checkpoint(f"{folder}/state", {"seed": 1}).load()
    b'step 7'
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.run = json.dumps(run, sort_keys=True, default=str)

    def save(self, content: bytes) -> None:
        """Replace the file by this content."""
        head = {"run": self.run, "sha256": hashlib.sha256(content).hexdigest()}
        write_whole(self.path, json.dumps(head).encode() + b"\n" + content)

    def load(self) -> bytes | None:
        """The last content; None when there is none.

        Raises:
            ConfigError: It belongs to a run with other data, settings or seed.
            ArtefactError: It is damaged.
        """
        if not self.path.is_file():
            return None
        line, _, content = self.path.read_bytes().partition(b"\n")
        try:
            head = json.loads(line)
            run, digest = head["run"], head["sha256"]
        except (ValueError, KeyError, TypeError):
            run, digest = None, None
        if digest != hashlib.sha256(content).hexdigest():
            raise ArtefactError(f"{str(self.path)!r} is damaged; remove it to start from the beginning")
        if run != self.run:
            raise ConfigError(f"{str(self.path)!r} is of a run with other data, settings or seed; choose another folder")
        return content
