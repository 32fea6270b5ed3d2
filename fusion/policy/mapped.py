"""Columns on disk as memory maps: one .npy file a column, written part by part, published by one rename."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.arrays import AnyArray, Columns
from core.artefacts import json_bytes
from core.errors import DataError

FORMAT = "scorefusion-columns/1"


def write(folder: str | Path, parts: Iterable[Columns], about: Mapping[str, Any]) -> int:
    """Write the parts one after another; the folder appears when all of it is there, in the place of an older one.

    Args:
        parts: Columns `[n, ...]` by name; every part has the same names, types and trailing shapes.
        about: JSON values for the manifest.

    Returns:
        The number of rows.

    Raises:
        DataError: There is no part, or a part does not fit the first.
    """
    target = Path(folder)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        shapes, n = _append(partial, parts)
        columns = {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in shapes.items()}
        manifest = {"format": FORMAT, "n": n, "columns": columns, "about": dict(about)}
        (partial / "manifest.json").write_bytes(json_bytes(manifest))
        if target.exists():
            old = target.with_name(f".{target.name}.old.{uuid.uuid4().hex[:8]}")
            os.replace(target, old)
            os.replace(partial, target)
            shutil.rmtree(old)
        else:
            os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return n


def read(folder: str | Path) -> tuple[dict[str, AnyArray], dict[str, Any]]:
    """The columns as read-only memory maps, and what the manifest says about them.

    Raises:
        DataError: The folder was not written by `write`, or a file is missing or of another size.
    """
    path = Path(folder)
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} holds no transition table (manifest.json: {error}); write one first") from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{str(path)!r} has format {manifest.get('format')!r}, not {FORMAT!r}; write it again")
    columns: dict[str, AnyArray] = {}
    for name, expected in manifest["columns"].items():
        shape = (manifest["n"], *expected["shape"])
        try:
            found = np.load(path / f"{name}.npy", mmap_mode="r" if manifest["n"] else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{str(path)!r}: column {name!r} cannot be read ({error}); write the table again") from error
        if found.shape != shape or found.dtype.str != expected["dtype"]:
            raise DataError(f"{str(path)!r}: column {name!r} is {found.dtype}{found.shape}, the manifest says {shape}")
        columns[name] = found
    return columns, manifest["about"]


_Shapes = dict[str, tuple[str, tuple[int, ...]]]


def _append(folder: Path, parts: Iterable[Columns]) -> tuple[_Shapes, int]:
    shapes: _Shapes = {}
    files: dict[str, BinaryIO] = {}
    n = 0
    try:
        for part in parts:
            found = {name: (np.asarray(column).dtype.str, np.shape(column)[1:]) for name, column in part.items()}
            if not shapes:
                shapes = found
                files = {name: (folder / f"{name}.npy").open("wb") for name in shapes}
                for name, file in files.items():
                    _header(file, shapes[name], 0)
            if found != shapes:
                raise DataError(f"a part has columns {found}, the first had {shapes}; all parts must be alike")
            for name, column in part.items():
                np.ascontiguousarray(column).tofile(files[name])
            n += len(next(iter(part.values())))
        if not shapes:
            raise DataError("nothing to write: the transition table has no part")
        for name, file in files.items():  # numpy leaves room in the header for a growing first axis
            file.seek(0)
            _header(file, shapes[name], n)
    finally:
        for file in files.values():
            file.close()
    return shapes, n


def _header(file: BinaryIO, kind: tuple[str, tuple[int, ...]], n: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": kind[0], "fortran_order": False, "shape": (n, *kind[1])})
