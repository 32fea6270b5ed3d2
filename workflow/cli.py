"""The `scorefusion` command: one verb, one file; options from the command line over those of `--config`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

import yaml

from core.errors import ConfigError, ScorefusionError

# verb -> (module, what it does). A module is imported only when its verb runs, so that `--help` stays instant.
VERBS: Mapping[str, tuple[str, str]] = {
    "simulate": ("workflow.simulate", "simulate users and write their log"),
    "train": ("workflow.train", "train a multi-task ranker and publish it"),
    "score": ("workflow.score", "write a ranker's predictions beside a log, out of sample if asked"),
    "evaluate": ("workflow.evaluate", "judge a ranker or a fusion on a log"),
    "search": ("workflow.search", "search a formula's weights on logged impressions"),
    "learn": ("workflow.learn", "learn a monotone fusion from logged impressions"),
    "train-policy": ("workflow.train_policy", "learn a fusion policy from logged sessions, or search one by playing"),
    "ope": ("workflow.ope", "estimate what policies would have got, from the log of another one"),
    "publish": ("workflow.publish", "publish a hand-set formula, or list what is published"),
    "plan": ("workflow.plan", "check an experiment plan, or show who is in which bucket"),
    "serve": ("workflow.serve", "serve rankings over HTTP on Ray Serve's fast path"),
    "compare": ("workflow.compare", "compare the buckets of an experiment"),
    "demo": ("workflow.demo", "the whole loop on a simulated world: train, search, serve, compare"),
}


class Verb(Protocol):
    """What a verb's module provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the verb's own options."""

    def run(self, args: argparse.Namespace) -> str:
        """Do it; the answer is the one line that says what was made."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Exit codes: 0 fine, 2 the input is wrong (one line on stderr), 1 our fault (with a traceback)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_overview())
            return 0
        verb, module = _verb(arguments[0])
        print(module.run(parse(verb, module, arguments[1:])))
    except ScorefusionError as error:
        print(f"scorefusion: {error}", file=sys.stderr)
        return 2
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("scorefusion: interrupted", file=sys.stderr)
        return 130
    except Exception:  # anything else is our fault, and said to be
        traceback.print_exc()
        print("scorefusion: this is our fault; please report it with the lines above", file=sys.stderr)
        return 1
    return 0


def parse(verb: str, module: Verb, arguments: Sequence[str]) -> argparse.Namespace:
    """The verb's options: defaults, under `--config`, under the command line.

    Raises:
        ConfigError: An option or a key of the file is unknown, or the file is not a YAML mapping.
    """
    parser = _Parser(prog=f"scorefusion {verb}", description=VERBS[verb][1] if verb in VERBS else None)
    parser.add_argument("--config", metavar="FILE.yaml", help="options by name, overruled by the command line")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    module.add_arguments(parser)
    early, _ = _config_parser().parse_known_args(list(arguments))
    if early.config is not None:
        _apply_config(parser, _read_mapping(Path(early.config)), early.config)
    return parser.parse_args(list(arguments))


def _config_parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser


def _apply_config(parser: argparse.ArgumentParser, values: Mapping[str, Any], path: str) -> None:
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    for key, value in values.items():
        action = actions.get(str(key).replace("-", "_"))
        if action is None:
            raise ConfigError(f"{path}: unknown option {key!r}; options are {', '.join(sorted(actions))}")
        if action.choices is not None and value not in action.choices:
            raise ConfigError(f"{path}: {key} is {value!r}; choose from {', '.join(map(str, action.choices))}")
        if action.type is not None and isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                value = cast(Any, action.type)(str(value))
            except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
                raise ConfigError(f"{path}: {key} is {value!r}: {error}") from error
        action.default, action.required = value, False
        if not action.option_strings:
            action.nargs = "?"


def _read_mapping(path: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--config {str(path)!r} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"--config {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--config {str(path)!r} must hold a mapping of options, not {type(values).__name__}")
    return values


def _verb(name: str) -> tuple[str, Verb]:
    if name not in VERBS:
        raise ConfigError(f"unknown verb {name!r}; verbs are {', '.join(VERBS)}")
    return name, cast(Verb, import_module(VERBS[name][0]))


def _overview() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {what}" for verb, (_, what) in VERBS.items()]
    return "\n".join(["usage: scorefusion VERB [options]   (scorefusion VERB --help for the options)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
