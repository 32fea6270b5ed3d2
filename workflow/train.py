"""`scorefusion train`: learn from earlier rows, choose the epoch on later ones, publish the ranker, say how good it is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from core.artefacts import json_bytes, write_whole
from core.errors import ArtefactError, ConfigError
from core.logs import LoggedDataset
from ranker import report
from ranker.balance import BALANCERS
from ranker.features import FeatureSpec
from ranker.incremental import load_trained, update
from ranker.models import MODELS
from ranker.predictor import Predictor
from ranker.recipes import Recipe
from ranker.report.comparison import SHOWN, cell, comparison_page, label
from ranker.scalars import Scalars
from ranker.streaming import train_stream
from ranker.train import TrainConfig, Trained, train
from workflow.contest import Entry, chosen, contest, names_of, summary
from workflow.data import add_data_arguments, add_store_argument, add_worker_arguments, load, mapping_option, spread, store_of
from workflow.evaluate import require_features
from workflow.tables import metrics_table, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--name", default="ranker", help="the artefact is ranker/NAME (default: %(default)s)")
    parser.add_argument("--model", choices=list(MODELS), default="mmoe", help="architecture (default: %(default)s)")
    parser.add_argument(
        "--from", dest="start", metavar="LABEL", help="go on from this ranker: its weights and ids, new ids get rows of their own"
    )
    parser.add_argument("--models", metavar="A,B|all", help="compare these architectures and publish the one validation chooses")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="comparison: runs of each, from --seed on (default: 1)")
    parser.add_argument(
        "--runs",
        default="runs/comparison",
        metavar="FOLDER",
        help="comparison: finished runs, tables and page (default: %(default)s)",
    )
    parser.add_argument(
        "--judge",
        choices=("valid", "test"),
        default="valid",
        help="comparison: rows of the printed table; the chosen ranker is judged on test in any case (default: %(default)s)",
    )
    parser.add_argument(
        "--options",
        metavar="YAML",
        help="the architecture's own over the recipe's, such as '{n_experts: 8}', or '{members: 3}' for an ensemble of three; "
        "by architecture with --models",
    )
    parser.add_argument("--training", metavar="YAML", help="training settings beyond those below, such as '{patience: 3}'")
    parser.add_argument("--epochs", type=int, help="at most so many (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, help="rows a step (default: the recipe's)")
    parser.add_argument("--learning-rate", type=float, help="default: the recipe's")
    parser.add_argument(
        "--balance",
        metavar="NAME|A,B|all",
        help=f"how the tasks' losses are combined, of {', '.join(BALANCERS)}; several are compared (default: the recipe's)",
    )
    parser.add_argument(
        "--stream",
        metavar="VALID.parquet",
        help="recipe log: learn from all of --data, Parquet that may be larger than memory, and validate on these later rows",
    )
    parser.add_argument("--checkpoints", metavar="FOLDER", help="save each epoch here, and go on from it after a kill")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="scalars of each epoch (default: beside the checkpoints, if any)")
    parser.add_argument("--report", metavar="FOLDER", help="write report.html and report.json of the validation rows here")
    parser.add_argument("--threads", type=int, default=2, help="torch threads, of each worker too (default: %(default)s)")
    add_worker_arguments(parser)


def run(args: argparse.Namespace) -> str:
    """Train, publish, and print the validation metrics; or compare, and publish what validation chooses."""
    options = mapping_option("--options", args.options)
    balances = names_of("--balance", args.balance, list(BALANCERS)) if args.balance else []
    models = names_of("--models", args.models, list(MODELS)) if args.models else [args.model]
    if args.seeds < 1:
        raise ConfigError(f"--seeds {args.seeds} must be at least 1")
    several = bool(args.models) or len(balances) > 1 or args.seeds > 1
    if args.start and several:
        raise ConfigError("--from goes on with one ranker; leave --models, several balances and --seeds out")
    if spread(args) and several:
        raise ConfigError("--workers spreads one training; compare with --models, --balance and --seeds in one process")
    torch.set_num_threads(args.threads)
    if args.stream:
        if args.start or several or spread(args):
            raise ConfigError("--stream trains one ranker alone; leave --from, comparisons and --workers out")
        return publish_one(args, *train_streamed(args, config_of(args, TrainConfig(), balances), options))
    recipe = load(args)
    config = config_of(args, recipe.config, balances)
    if several:
        by_model = options_of(recipe, models, options if args.models else {args.model: options})
        return compare(args, recipe, config, [Entry(m, b) for m in models for b in balances or [config.balance]], by_model)
    trained = train_one(args, recipe, config, options if args.start else recipe.options_for(args.model) | options)
    return publish_one(args, trained, recipe.valid)


def publish_one(args: argparse.Namespace, trained: Trained, valid: LoggedDataset) -> str:
    """Its metrics on the validation rows, the artefact, and the report where one is wanted."""
    print(metrics_table(trained.metrics))
    parents = {"start": store_of(args).find(args.start).label} if args.start else None
    artefact = trained.publish(store_of(args), args.name, parents=parents)
    if args.report:
        report.write(report.facts(trained, valid, seed=args.seed), args.report)
    return f"{artefact.path}: {trained.model_name} of {summary_line(trained)}"


def train_one(args: argparse.Namespace, recipe: Recipe, config: TrainConfig, options: Mapping[str, Any]) -> Trained:
    """In this process, or in Ray workers."""
    if args.start:
        return go_on(args, recipe, options)
    rows: dict[str, Any] = {"train": recipe.train, "valid": recipe.valid}
    common: dict[str, Any] = {"config": config, "options": options, "seed": args.seed, "checkpoints": args.checkpoints}
    if not spread(args):
        return train(recipe.spec, args.model, **rows, **common, watch=scalars_of(args))
    from ranker.distributed import train_workers  # here: Ray takes seconds to import

    workers = {"n_workers": args.workers, "address": args.address, "threads": args.threads, "tensorboard": scalars_folder(args)}
    return train_workers(recipe.spec, args.model, **rows, **common, **workers)


def train_streamed(args: argparse.Namespace, config: TrainConfig, options: Mapping[str, Any]) -> tuple[Trained, LoggedDataset]:
    """From Parquet on disk, a few row groups at a time; the validation rows are in memory."""
    if args.recipe != "log" or not args.spec or args.also:
        raise ConfigError("--stream needs --recipe log with --spec, and one --data")
    valid = LoggedDataset.from_parquet(args.stream)
    trained = train_stream(
        FeatureSpec.load(args.spec),
        args.model,
        path=args.data,
        valid=valid,
        config=config,
        options=options,
        seed=args.seed,
        checkpoints=args.checkpoints,
        watch=scalars_of(args),
    )
    return trained, valid


def scalars_of(args: argparse.Namespace) -> Scalars | None:
    """TensorBoard's scalars, where a folder is named or checkpoints have one."""
    folder = scalars_folder(args)
    return Scalars(folder) if folder else None


def scalars_folder(args: argparse.Namespace) -> str | Path | None:
    """Where scalars go."""
    folder: str | Path | None = args.tensorboard or (Path(args.checkpoints) / "tensorboard" if args.checkpoints else None)
    return folder


def go_on(args: argparse.Namespace, recipe: Recipe, options: Mapping[str, Any]) -> Trained:
    """A daily update: the published ranker's architecture and settings, today's rows, the feature spec unchanged."""
    if options or spread(args):
        raise ConfigError("--from keeps the ranker's own options and trains in one process; leave --options and --workers out")
    artefact = store_of(args).find(args.start)
    before = load_trained(artefact)
    if recipe.spec.features != before.encoder.spec.features or recipe.spec.tasks != before.encoder.spec.tasks:
        require_features(artefact.label, before.encoder.spec, recipe.spec)
        raise ArtefactError(f"{artefact.label} was trained with another feature spec or other tasks; train from the start")
    config = config_of(args, before.config, [args.balance] if args.balance else [])
    return update(
        before, train_rows=recipe.train, valid_rows=recipe.valid, config=config, seed=args.seed, checkpoints=args.checkpoints
    )


def compare(
    args: argparse.Namespace, recipe: Recipe, config: TrainConfig, entries: Sequence[Entry], options: Mapping[str, Any]
) -> str:
    """Every entry over the seeds; a table, comparison.json and comparison.html, and the chosen ranker published."""
    folder = Path(args.runs)
    runs, left_out = contest(
        recipe,
        entries,
        config=config,
        options=options,
        seeds=range(args.seed, args.seed + args.seeds),
        folder=folder,
        skip_unfit="all" in (args.models, args.balance),
        tensorboard=args.tensorboard,
    )
    parts = {part: summary(runs, part) for part in ("valid", "test")}
    entry, best = chosen(runs)
    print(comparison_table(parts[args.judge]))
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    print(f"\nchosen on the validation rows: {entry.model} with {entry.balance}, seed {best.seed}; on the test rows:")
    print(metrics_table(best.metrics["test"]))
    value = {
        "data": args.data,
        "recipe": args.recipe,
        "seeds": args.seeds,
        "chosen": {"model": entry.model, "balance": entry.balance, "seed": best.seed},
        "left_out": left_out,
        **parts,
        "seconds": {run.artefact.name: run.seconds for run in runs},
    }
    write_whole(folder / "comparison.json", json_bytes(report.plain(value)))
    headings = {"Validation rows, which choose": parts["valid"], "Test rows": parts["test"]}
    intro = f"{len(runs)} runs on {recipe.name}; validation chooses {entry.model} with {entry.balance}."
    write_whole(folder / "comparison.html", comparison_page("Rankers compared", intro, headings).encode())
    manifest = best.artefact.manifest
    published = Predictor.load(best.artefact).publish(
        store_of(args),
        args.name,
        seed=best.seed,
        data_fingerprint=manifest["data_fingerprint"],
        train=best.artefact.config["train"],
        metrics=manifest["metrics"]["valid"],
    )
    n = len({run.entry for run in runs})
    what = f"{entry.model} with {entry.balance}, best of {n} over {args.seeds} seeds"
    return f"{published.path}: {what}; see {folder / 'comparison.html'}"


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a ranker and task: mean ± standard deviation over seeds."""
    several = len({row["balance"] for row in rows}) > 1
    names = [name for name in SHOWN if any(cell(row.get(name)) for row in rows)]
    cells = [[label(row, several), row["task"], *(cell(row.get(name)) for name in names)] for row in rows]
    return table(["ranker", "task", *names], cells)


def options_of(recipe: Recipe, models: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By architecture: the recipe's options under those given."""
    for model, own in given.items():
        if model not in MODELS or not isinstance(own, Mapping):
            raise ConfigError(f"--options: {model!r} must be an architecture over its options, as '{{mmoe: {{n_experts: 8}}}}'")
    return {model: recipe.options_for(model) | dict(given.get(model, {})) for model in models}


def config_of(args: argparse.Namespace, base: TrainConfig, balances: Sequence[str] = ()) -> TrainConfig:
    """The recipe's training settings under `--training` under the options with a name of their own."""
    named = {name: getattr(args, name) for name in ("epochs", "batch_size", "learning_rate")}
    given = {name: value for name, value in named.items() if value is not None}
    if len(balances) == 1:
        given["balance"] = balances[0]
    return TrainConfig.from_json({**asdict(base), **mapping_option("--training", args.training), **given})


def summary_line(trained: Trained) -> str:
    """What was trained, in one line."""
    n = sum(p.numel() for p in trained.model.parameters())
    return f"{n} parameters, {len(trained.encoder.spec.tasks)} tasks, best epoch {trained.best_epoch:g} of {len(trained.history)}"
