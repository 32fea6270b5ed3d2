"""The command line: options by file and by hand, one clear line for a wrong one, and the promised exit codes."""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from core.errors import ConfigError
from workflow.cli import VERBS, Verb, main, parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--model", choices=["mmoe", "ple"], default="mmoe")
    parser.add_argument("--out", required=True)


EXAMPLE = cast(Verb, SimpleNamespace(add_arguments=add_arguments, run=lambda args: "made"))


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    return str(path)


def test_command_line_overrules_file_overrules_defaults(tmp_path: Path) -> None:
    file = config(tmp_path, "rows: 7\nmodel: ple\nout: a\nseed: 3\n")
    args = parse("example", EXAMPLE, ["--config", file, "--rows", "9"])
    assert (args.rows, args.model, args.out, args.seed) == (9, "ple", "a", 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour: red", "unknown option 'colour'; options are model, out, rows, seed"),
        ("model: rnn", "model is 'rnn'; choose from mmoe, ple"),
        ("rows: many", "rows is 'many'"),
        ("- a", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse("example", EXAMPLE, ["--config", config(tmp_path, text)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["fly"], ["plan", "--nonsense"], ["demo", "--config", "absent.yaml"]])
def test_wrong_input_exits_2_with_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("scorefusion: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_config_and_seed(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--config" in text
    assert "--seed" in text


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " not in text] == []
