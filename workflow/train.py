"""`scorefusion train`: learn from earlier rows, choose the epoch on later ones, publish the ranker, say how good it is."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch

from ranker import report
from ranker.balance import BALANCERS
from ranker.models import MODELS
from ranker.train import TrainConfig, Trained, train
from workflow.data import add_data_arguments, add_store_argument, load, mapping_option, store_of
from workflow.tables import metrics_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_data_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--name", default="ranker", help="the artefact is ranker/NAME (default: %(default)s)")
    parser.add_argument("--model", choices=list(MODELS), default="mmoe", help="architecture (default: %(default)s)")
    parser.add_argument("--options", metavar="YAML", help="the architecture's own, such as '{n_experts: 8, hidden: [64, 32]}'")
    parser.add_argument("--training", metavar="YAML", help="training settings beyond those below, such as '{patience: 3}'")
    parser.add_argument("--epochs", type=int, help="at most so many (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, help="rows a step (default: the recipe's)")
    parser.add_argument("--learning-rate", type=float, help="default: the recipe's")
    parser.add_argument("--balance", choices=list(BALANCERS), help="how the tasks' losses are combined (default: the recipe's)")
    parser.add_argument("--checkpoints", metavar="FOLDER", help="save each epoch here, and go on from it after a kill")
    parser.add_argument("--report", metavar="FOLDER", help="write report.html and report.json of the validation rows here")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: %(default)s)")


def run(args: argparse.Namespace) -> str:
    """Train, publish, and print the validation metrics."""
    options = mapping_option("--options", args.options)
    recipe = load(args)
    config = config_of(args, recipe.config)
    torch.set_num_threads(args.threads)
    trained = train(
        recipe.spec,
        args.model,
        train=recipe.train,
        valid=recipe.valid,
        config=config,
        options=options,
        seed=args.seed,
        checkpoints=args.checkpoints,
    )
    print(metrics_table(trained.metrics))
    artefact = trained.publish(store_of(args), args.name)
    if args.report:
        report.write(report.facts(trained, recipe.valid, seed=args.seed), args.report)
    return f"{artefact.path}: {args.model} of {summary(trained)}"


def config_of(args: argparse.Namespace, base: TrainConfig) -> TrainConfig:
    """The recipe's training settings under `--training` under the options with a name of their own."""
    named = {name: getattr(args, name) for name in ("epochs", "batch_size", "learning_rate", "balance")}
    given = {name: value for name, value in named.items() if value is not None}
    return TrainConfig.from_json({**asdict(base), **mapping_option("--training", args.training), **given})


def summary(trained: Trained) -> str:
    """What was trained, in one line."""
    n = sum(p.numel() for p in trained.model.parameters())
    return f"{n} parameters, {len(trained.encoder.spec.tasks)} tasks, best epoch {trained.best_epoch:g} of {len(trained.history)}"
