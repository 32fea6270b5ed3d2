"""A run's state comes back as it was, or is refused: another run's, cut, or changed in one byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.checkpoint import Checkpoint
from core.errors import ArtefactError, ConfigError

RUN = {"seed": 1, "data": "ab", "rate": float("nan")}


@given(first=st.binary(max_size=200), content=st.binary(max_size=200))
def test_the_last_content_comes_back(tmp_path_factory: pytest.TempPathFactory, first: bytes, content: bytes) -> None:
    path = tmp_path_factory.mktemp("kept") / "below" / "state"
    kept = Checkpoint(path, RUN)
    assert kept.load() is None
    kept.save(first)
    kept.save(content)
    assert Checkpoint(path, dict(reversed(RUN.items()))).load() == content
    assert [file.name for file in path.parent.iterdir()] == ["state"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "state", RUN).save(b"content")
    with pytest.raises(ConfigError, match="choose another folder"):
        Checkpoint(tmp_path / "state", {**RUN, "seed": 2}).load()


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_cut_file_is_refused(tmp_path: Path, cut: int) -> None:
    Checkpoint(tmp_path / "state", RUN).save(b"content\nof lines")
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(whole[:cut])
    with pytest.raises(ArtefactError, match="damaged"):
        Checkpoint(tmp_path / "state", RUN).load()


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "state", RUN).save(b"content")
    whole = (tmp_path / "state").read_bytes()
    (tmp_path / "state").write_bytes(whole[:-1] + b"X")
    with pytest.raises(ArtefactError, match="damaged"):
        Checkpoint(tmp_path / "state", RUN).load()
    (tmp_path / "state").write_bytes(b"[1]\n" + whole)
    with pytest.raises(ArtefactError, match="damaged"):
        Checkpoint(tmp_path / "state", RUN).load()
