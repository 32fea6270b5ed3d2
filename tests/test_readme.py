"""The README's examples run: its Python session as a doctest, its console sessions command by command."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from workflow.cli import main

README = Path(__file__).resolve().parent.parent / "README.md"
NOT_RUN = "<!-- not run by the tests"


def test_python_examples() -> None:
    failed, attempted = doctest.testfile(str(README), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert attempted > 5
    assert failed == 0


def commands() -> list[list[str]]:
    """Every `$ scorefusion ...` line of console blocks that are not marked as needing a service."""
    text = README.read_text()
    found = []
    for block in re.finditer(r"```console\n(.*?)```", text, re.S):
        if NOT_RUN in text[: block.start()].rsplit("```", 1)[-1]:
            continue
        found += [shlex.split(line[2:])[1:] for line in block[1].splitlines() if line.startswith("$ scorefusion ")]
    return found


def test_console_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = commands()
    verbs = ["simulate", "train", "score", "search", "publish", "publish", "learn", "train-policy", "ope"]
    assert [arguments[0] for arguments in shown] == verbs
    for arguments in shown:
        assert main(arguments) == 0, f"scorefusion {' '.join(arguments)}"
