"""install: an environment counts only when every step passed, and is left alone afterwards."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.peers.install import PEERS, Peer, environment, install, installed, main

PEER = Peer("toy", ("numpy",), bare=("old",), proof="import toy")


class Pip:
    """Records the commands and fails at the one asked for."""

    def __init__(self, fail_at: int = -1) -> None:
        self.commands: list[list[str]] = []
        self.fail_at = fail_at

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(list(command))
        return int(len(self.commands) - 1 == self.fail_at)


def test_steps_end_in_a_proof_and_a_stamp(tmp_path: Path) -> None:
    pip = Pip()
    assert not installed(PEER, tmp_path)
    assert install(PEER, tmp_path, run=pip, create=lambda folder: folder.mkdir())
    assert [command[-1] for command in pip.commands] == ["numpy", "old", "import toy"]
    assert "--no-deps" in pip.commands[1]
    assert installed(PEER, tmp_path)
    assert not installed(Peer("toy", ("numpy<2",)), tmp_path), "other requirements: install again"


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_failed_step_leaves_the_peer_absent(tmp_path: Path, fail_at: int) -> None:
    install(PEER, tmp_path, run=Pip(), create=lambda folder: folder.mkdir())
    assert not install(PEER, tmp_path, run=Pip(fail_at), create=lambda folder: folder.mkdir())
    assert not installed(PEER, tmp_path)
    assert environment("toy", tmp_path).name == ".venv-peers-toy"


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["nobody"])
    assert stop.value.code == 2
    assert f"peers are {', '.join(PEERS)}" in capsys.readouterr().err
