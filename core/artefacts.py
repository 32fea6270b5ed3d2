"""Artefacts: versioned folders with a manifest, published whole or not at all, and refused when damaged or foreign."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from core.arrays import AnyArray
from core.errors import ArtefactError

FORMAT = "scorefusion-artefact/1"
PACKAGES = ("scorefusion", "numpy", "torch", "pyarrow", "safetensors", "scipy", "numba")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Artefact:
    """One published version: a folder whose files the manifest lists with their sha256."""

    kind: str
    name: str
    version: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        """What the artefact was made from, as plain JSON values."""
        config: Mapping[str, Any] = self.manifest["config"]
        return config

    @property
    def label(self) -> str:
        """`kind/name/version`, as logs and answers show it."""
        return f"{self.kind}/{self.name}/{self.version}"

    def read(self, file: str) -> bytes:
        """A file's content.

        Raises:
            ArtefactError: The manifest does not list it, or its content is not what was published.
        """
        listed = self.manifest["files"]
        if file not in listed:
            raise ArtefactError(f"{self.label} has no file {file!r}; it holds {', '.join(sorted(listed))}")
        try:
            content = (self.path / file).read_bytes()
        except OSError as error:
            raise ArtefactError(f"{self.label}: {file!r} cannot be read ({error.strerror}); publish it again") from error
        if hashlib.sha256(content).hexdigest() != listed[file]["sha256"]:
            raise ArtefactError(f"{self.label}: {file!r} is damaged (sha256 differs from the manifest); publish it again")
        return content

    def read_json(self, file: str) -> Any:
        """A JSON file's value."""
        return json.loads(self.read(file))

    def read_tensors(self, file: str) -> dict[str, AnyArray]:
        """The arrays of a safetensors file, by name."""
        try:
            return dict(load_safetensors(self.read(file)))
        except SafetensorError as error:
            raise ArtefactError(f"{self.label}: {file!r} is not safetensors: {error}") from error


class ArtefactStore:
    """Artefacts below one root: `<root>/<kind>/<name>/<version>/manifest.json`; versions count from v1."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def publish(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        config: Mapping[str, Any],
        seed: int | None = None,
        data_fingerprint: str | None = None,
        parents: Mapping[str, str] | None = None,
        metrics: Mapping[str, Any] | None = None,
        created_at: str | None = None,
    ) -> Artefact:
        """Write a new version. It appears by one rename, so a reader or a kill never meets half of it.

        Args:
            files: Content by file name; use `tensors` and `json_bytes` to make it.
            config: Everything needed to make it again, as JSON values.
            parents: Artefacts it was made from, such as `{"ranker": "ranker/demo/v3"}`.
            created_at: An ISO time; left out where the artefact must be byte for byte reproducible.
        """
        folder = self._folder(kind, name)
        for file in files:
            if not _NAME.fullmatch(file) or file == "manifest.json":
                raise ArtefactError(f"file name {file!r} is not allowed in an artefact; use letters, digits, _ . -")
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".partial-{uuid.uuid4().hex}"
        partial.mkdir()
        try:
            for file, content in files.items():
                _write(partial / file, content)
            while True:
                version = f"v{max((_number(v) for v in self.versions(kind, name)), default=0) + 1}"
                manifest = {
                    "format": FORMAT,
                    "kind": kind,
                    "name": name,
                    "version": version,
                    "created_at": created_at,
                    "config": dict(config),
                    "seed": seed,
                    "data_fingerprint": data_fingerprint,
                    "parents": dict(parents or {}),
                    "metrics": dict(metrics or {}),
                    "packages": {"python": platform.python_version(), **_installed()},
                    "files": {
                        file: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                        for file, content in sorted(files.items())
                    },
                }
                _write(partial / "manifest.json", json_bytes(manifest))
                try:
                    partial.rename(folder / version)
                except OSError:
                    if not (folder / version).exists():
                        raise
                    continue  # somebody else took this number: take the next
                _sync_folder(folder)
                return self.load(kind, name, version)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def load(self, kind: str, name: str, version: str | None = None) -> Artefact:
        """A published version, the newest by default. File contents are verified when they are read.

        Raises:
            ArtefactError: It is not there, its manifest is damaged, or it is of another kind.
        """
        chosen = version or self.latest(kind, name)
        path = self._folder(kind, name) / chosen
        if not re.fullmatch(r"v[0-9]+", chosen) or not (path / "manifest.json").is_file():
            have = ", ".join(self.versions(kind, name)) or "none"
            raise ArtefactError(f"no artefact {kind}/{name}/{chosen} below {str(self.root)!r}; versions there: {have}")
        try:
            manifest = json.loads((path / "manifest.json").read_bytes())
        except ValueError as error:
            raise ArtefactError(f"{kind}/{name}/{chosen}: manifest.json is damaged ({error}); publish it again") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ArtefactError(f"{kind}/{name}/{chosen}: not a scorefusion artefact (format is not {FORMAT!r})")
        wanted = {"kind": kind, "name": name, "version": chosen}
        for field, value in wanted.items():
            if manifest.get(field) != value:
                raise ArtefactError(f"{kind}/{name}/{chosen}: its manifest says {field} {manifest.get(field)!r}; it was moved")
        if not isinstance(manifest.get("files"), dict) or not isinstance(manifest.get("config"), dict):
            raise ArtefactError(f"{kind}/{name}/{chosen}: manifest.json lacks files or config; publish it again")
        return Artefact(kind, name, chosen, path, manifest)

    def find(self, label: str) -> Artefact:
        """By label: `kind/name` (newest) or `kind/name/version`."""
        parts = label.split("/")
        if len(parts) not in (2, 3):
            raise ArtefactError(f"artefact label {label!r} must read kind/name or kind/name/version")
        return self.load(*parts)

    def names(self, kind: str) -> list[str]:
        """Names that have at least one version."""
        folder = self.root / kind
        return sorted(p.name for p in folder.iterdir() if self.versions(kind, p.name)) if folder.is_dir() else []

    def versions(self, kind: str, name: str) -> list[str]:
        """Published versions, oldest first."""
        folder = self._folder(kind, name)
        found = [p.name for p in folder.iterdir() if re.fullmatch(r"v[0-9]+", p.name)] if folder.is_dir() else []
        return sorted(found, key=_number)

    def latest(self, kind: str, name: str) -> str:
        """The newest version's name."""
        versions = self.versions(kind, name)
        if not versions:
            have = ", ".join(self.names(kind)) or "none"
            raise ArtefactError(f"no {kind} named {name!r} below {str(self.root)!r}; {kind} artefacts there: {have}")
        return versions[-1]

    def _folder(self, kind: str, name: str) -> Path:
        for part in (kind, name):
            if not _NAME.fullmatch(part):
                raise ArtefactError(f"artefact kind and name {kind!r}, {name!r} may hold letters, digits, _ . - only")
        return self.root / kind / name


def tensors(arrays: Mapping[str, AnyArray]) -> bytes:
    """Arrays as the content of a safetensors file."""
    return save_safetensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def json_bytes(value: Any) -> bytes:
    """A JSON value as file content: sorted keys, indented, no NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write one file that appears whole or not at all, its folder made where there is none."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        _write(partial, content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _number(version: str) -> int:
    return int(version[1:])


def _installed() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
