"""Settings: the file, the environment over it, and one clear error for everything wrong."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from serving.settings import Settings


def load(text: str, tmp_path: Path, **environ: str) -> Settings:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    return Settings.load(path, environ=environ)


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    settings = load("port: 9000\nreplicas: 2\n", tmp_path, SCOREFUSION_PORT="9001", SCOREFUSION_RULES='[{"kind": "block"}]')
    assert (settings.port, settings.replicas, settings.rules) == (9001, 2, ({"kind": "block"},))


def test_json_is_read_as_well(tmp_path: Path) -> None:
    assert load('{"deadline_ms": 20}', tmp_path).deadline_ms == 20.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", "unknown setting 'prot'"),
        ("port: yes", "port = True must be a whole number"),
        ("port: 70000", "port = 70000 must lie between 1 and 65535"),
        ("replicas: many", "replicas = 'many' must be a whole number"),
        ("[1, 2]", "must hold one mapping"),
        ("a: [", "is not YAML or JSON"),
        ("ranker: small", "must read ranker/name"),
        ("ranker: ranker/small", "strategies is empty"),
        ("{ranker: ranker/s, strategies: {a: strategy/a}, default_strategy: b}", "default_strategy = 'b' is not one of"),
        ("{ranker: ranker/s, strategies: {a: strategy/a}, default_strategy: a}", "items and users must name"),
        ("strategies: {a: 3}", "must read strategy/name"),
        ("candidate_share: 1.5", "candidate_share = 1.5 must lie between 0 and 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(text, tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Settings.load("/no/such/file.yaml", environ={})


def test_secrets_are_never_shown() -> None:
    settings = Settings(admin_token="s3cret")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.public())


def test_the_store_lives_in_the_working_folder() -> None:
    assert Settings(work_dir="/data").store_url == "duckdb:///data/events.duckdb"
    assert Settings(store="postgresql://db/x").store_url == "postgresql://db/x"
