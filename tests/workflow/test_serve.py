"""`scorefusion serve`: options over environment over file; a taken port is one clear error."""

import argparse
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from core.errors import ArtefactError, ConfigError, StoreError
from serving import deployments
from serving.settings import Settings
from tests.serving import small
from workflow import cli, serve


def options(tmp_path: Path, text: str, *arguments: str, **environ: str) -> Settings:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    args = cli.parse("serve", serve, ["--config", str(path), *arguments])
    return serve.settings_of(args, environ=environ)


def test_the_command_line_goes_over_the_environment_over_the_file(tmp_path: Path) -> None:
    text = "port: 9000\nreplicas: 2\nthreads: 2\n"
    settings = options(tmp_path, text, "--port", "9002", SCOREFUSION_PORT="9001", SCOREFUSION_REPLICAS="3")
    assert (settings.port, settings.replicas, settings.threads) == (9002, 3, 2)


def test_every_setting_but_secrets_is_an_option() -> None:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    shown = parser.format_help()
    assert "--work-dir" in shown
    assert "--candidates-max" in shown
    assert "token" not in shown


def test_a_wrong_option_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="port = 'x' must be a whole number"):
        options(tmp_path, "replicas: 1", "--port", "x")


def test_a_taken_port_is_one_clear_error_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port), "--work-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"port {port} of 127.0.0.1 is taken" in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_served_is_one_clear_error_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "LOCK_WAIT_S", 0.3)
    settings = replace(small.make(tmp_path), port=serve.free_port())
    holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(tmp_path / "events.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(StoreError, match="another process"), serve.serving(settings, fast=False):
            pass
        other.stdin.close()
    weights = tmp_path / "artefacts/ranker/small/v1/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match="damaged"), serve.serving(settings, fast=False):
        pass
    assert not ray.is_initialized()
