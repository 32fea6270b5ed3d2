"""Where a verb's rows come from: an exported folder, a named recipe, or any log with a feature spec."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker.recipes import Recipe, ali_ccp, aliexpress, census_income, folder, generic, kuairand, movielens

PARTS = ("train", "valid", "test", "all")
RECIPES: Mapping[str, Callable[[argparse.Namespace], Recipe]] = {
    "folder": lambda args: folder.load(args.data, tasks=None if not args.tasks else _some(args)),
    "kuairand": lambda args: kuairand.load(args.data),
    "census_income": lambda args: census_income.load(args.data),
    "ali_ccp": lambda args: ali_ccp.load(args.data),
    "aliexpress": lambda args: aliexpress.load(args.data),
    "movielens": lambda args: movielens.load(args.data),
    "log": lambda args: _logs(args),
}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """`--data`, `--recipe`, `--spec` and `--tasks`."""
    parser.add_argument("--data", required=True, metavar="PATH", help="a folder or a file, as the recipe wants it")
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        default="folder",
        help="folder: what `scorefusion simulate` wrote (log, items, users); log: one Parquet, CSV or Arrow file "
        "with --spec; the others: public data sets in their own files (default: %(default)s)",
    )
    parser.add_argument("--spec", metavar="FILE.yaml", help="feature spec of recipe log")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="FILE",
        help="recipe log: another data set, for the tasks whose columns it holds; repeatable. Rows are mixed, or take turns with "
        "--training '{alternate: data_set}'",
    )
    parser.add_argument("--tasks", default="", metavar="A,B", help="recipe folder: only these tasks (default: all)")


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """`--artefacts`, the root that artefacts are published below."""
    parser.add_argument("--artefacts", default="artefacts", metavar="FOLDER", help="root of artefacts (default: %(default)s)")


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """`--workers` and `--address`, for work that Ray spreads."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="Ray worker processes (default: 1, in this process)")
    parser.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster for the workers (default: a local one)")


def spread(args: argparse.Namespace) -> bool:
    """Whether Ray workers are asked for."""
    if args.workers < 1:
        raise ConfigError(f"--workers {args.workers} must be at least 1")
    return bool(args.workers > 1 or args.address)


def load(args: argparse.Namespace) -> Recipe:
    """The recipe's rows and spec."""
    if not Path(args.data).exists():
        raise ConfigError(f"--data {args.data!r} does not exist; give the recipe's folder or file")
    return RECIPES[args.recipe](args)


def part(recipe: Recipe, name: str) -> LoggedDataset:
    """The recipe's rows of one part, or all of them."""
    if name not in PARTS:
        raise ConfigError(f"part {name!r} is not one of {', '.join(PARTS)}")
    if name != "all":
        rows: LoggedDataset = getattr(recipe, name)
        return rows
    return concatenate([recipe.train, recipe.valid, recipe.test])


def concatenate(logs: list[LoggedDataset]) -> LoggedDataset:
    """Logs with the same columns, one after another."""
    return LoggedDataset({name: np.concatenate([log[name] for log in logs]) for name in logs[0]})


def store_of(args: argparse.Namespace) -> ArtefactStore:
    """The artefact store a verb publishes to."""
    return ArtefactStore(args.artefacts)


def mapping_option(name: str, text: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """An option given as JSON or YAML text, or as a mapping in a config file.

    >>> mapping_option("--weights", "{click: 1.0}")
    {'click': 1.0}
    """
    if text is None or text == "":
        return {}
    value = text
    if isinstance(text, str):
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{name} {text!r} is not YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} {json.dumps(text)} must be a mapping such as '{{click: 1.0}}'")
    return dict(value)


def _spec(args: argparse.Namespace) -> str:
    if not args.spec:
        raise ConfigError("recipe log needs --spec, a feature spec in YAML")
    return str(args.spec)


def _logs(args: argparse.Namespace) -> Recipe:
    if not args.also:
        return generic.load(args.data, _spec(args))
    paths = [args.data, *args.also]
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError(f"--also: two data sets are named {max(names, key=names.count)!r}; their files' names must differ")
    return generic.load_several(dict(zip(names, paths, strict=True)), _spec(args))


def _some(args: argparse.Namespace) -> TaskSet:
    everything = folder.tasks_of(Path(args.data))
    return TaskSet([everything[name.strip()] for name in args.tasks.split(",")])
