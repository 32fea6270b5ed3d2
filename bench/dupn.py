"""DUPN on KuaiRand (Ni et al., KDD 2018): properties and attention, models without them, ways of transfer, one task or four.

The rows carry ids, content, context and the user's last behaviours, without the recipe's counted statistics: what a user did
is to be found in the sequence. Settings are fixed beforehand and the same for all; 05-03 chooses each epoch, 05-04..05-06 judge.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bench.bootstrap import Resampled, UserBootstrap, mean_of
from bench.harness import Bench, Cell, data_folder
from bench.quality_runs import Outcome, Prepared, Setting, averaged, finished, run
from core.arrays import Floats
from core.tasks import TaskSet, TaskSpec
from ranker.features import FeatureSpec
from ranker.pretrain import word2vec
from ranker.recipes import Recipe, kuairand, kuairand_sequences
from ranker.recipes.kuairand_known import COLUMNS
from ranker.train import TrainConfig, train
from ranker.transfer import MODES, transfer

TASKS = ("click", "long_view", "like", "follow")
NEW_TASK = "profile_enter"
ALL = "dupn all"
PLAIN = {"hidden": (128, 64), "dropout": 0.2}
DUPN = {"n_hidden": 64, "n_attention": 32, "n_rep": 128, "hidden": (128, 64), "dropout": 0.2, "reads": {"follow": ["author_id"]}}
CONFIG = TrainConfig(epochs=4, learning_rate=2e-3, patience=1, evaluations=2, monitor_tasks=TASKS[:3])
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wide": ("wide", {}),
    "wide_deep": ("wide_deep", PLAIN),
    "dssm": ("dssm", PLAIN),
    "cnn_max": ("cnn_max", PLAIN),
    **{f"dupn {variant}": ("dupn", {**DUPN, "variant": variant}) for variant in ("nobp", "bplstm", "bpatt", "all", "w2v")},
}
PAIRS = (
    *((ALL, f"dupn {variant}") for variant in ("bplstm", "bpatt", "nobp", "w2v")),
    ("dupn bpatt", "dupn nobp"),
    *((ALL, name) for name in ("cnn_max", "wide_deep", "dssm", "wide")),
)
FIGURES = (*(f"{_a}_vs_{_b}_low".replace("dupn ", "") for _a, _b in PAIRS), *(f"transfer_{mode}_auc" for mode in MODES))


@dataclass(frozen=True)
class Plan:
    """What this call compares."""

    seeds: Sequence[int]
    work: Path
    boot: UserBootstrap
    progress: bool
    only_finished: bool = False


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Run the three studies."""
    bench = Bench("dupn", FIGURES, argv=argv, arguments=_arguments)
    folder = data_folder("kuairand_pure")
    if folder is None:
        bench.note("kuairand", "the data is not there; set SCOREFUSION_DATA")
        return bench.finish()
    torch.set_num_threads(1)
    recipe = plain_recipe(folder, every=2 if bench.quick else 1)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(bench.args.work or temporary) / ("quick" if bench.quick else "full")
        work.mkdir(parents=True, exist_ok=True)
        boot = UserBootstrap(recipe.test["user_id"], n_draws=200 if bench.quick else 1000, seed=0)
        seeds = range(bench.args.seeds or (1 if bench.quick else 3))
        plan = Plan(seeds, work, boot, not bench.args.no_progress, bench.args.finished)
        for name, study in STUDIES.items():
            if name in bench.args.studies:
                study(bench, plan, recipe)
            else:
                bench.note(name, "not run")
        return bench.finish(partial=len(bench.args.studies) < len(STUDIES))


def plain_recipe(folder: Path, *, every: int = 1) -> Recipe:
    """KuaiRand with ids and behaviour sequences, without counted statistics; of one user in `every`."""
    recipe = kuairand.load(folder, tasks=(*TASKS, NEW_TASK), ids=True, dim=8)
    if every > 1:
        parts = [part.take(np.flatnonzero(part["user_id"] % every == 0)) for part in (recipe.train, recipe.valid, recipe.test)]
        recipe = replace(recipe, train=parts[0], valid=parts[1], test=parts[2])
    kept = [feature for feature in recipe.spec.features if feature.column not in COLUMNS]
    recipe = replace(recipe, spec=_spec(recipe.spec, recipe.spec.tasks, kept), options={})
    return kuairand_sequences.with_sequences(recipe, folder, length=20, dim=8)


def variant_study(bench: Bench, plan: Plan, recipe: Recipe) -> None:
    """Every variant and baseline on the four tasks, and the paired differences the paper's table claims."""
    four = with_tasks(recipe, TASKS)
    data = Prepared(four)
    runs: dict[str, list[Outcome]] = {name: [] for name in MODELS}
    pairs = [(seed, name) for seed in plan.seeds for name in MODELS]
    for seed, name in tqdm(pairs, desc="variants", disable=not plan.progress, unit="run"):
        model, options = MODELS[name]
        setting = Setting(CONFIG, options)
        outcome = finished(data, TASKS, model, seed, setting, plan.work)
        if outcome is None and not plan.only_finished:
            prepare = partial(word2vec, data.encoder, four.train, seed=seed) if name == "dupn w2v" else None
            outcome = run(data, TASKS, model, seed, setting, plan.work, prepare=prepare, progress=plan.progress)
        if outcome is not None:
            runs[name].append(outcome)
    runs = {name: outcomes for name, outcomes in runs.items() if outcomes}
    aucs = {name: _aucs(plan, recipe, outcomes, TASKS) for name, outcomes in runs.items()}
    rows: list[list[Cell]] = [
        [name, *(a.value for a in found), mean_of(found).value, _spread(runs[name]), _seconds(runs[name])]
        for name, found in aucs.items()
    ]
    title = f"KuaiRand by sequences, {len(recipe.test):,} judged rows, {len(plan.seeds)} seeds: AUC of the averaged predictions"
    bench.table(["model", *TASKS, "mean", "std on 05-03", "seconds"], rows, title=title)
    rows = []
    for ours, theirs in (pair for pair in PAIRS if set(pair) <= set(aucs)):
        gain = mean_of([a - b for a, b in zip(aucs[ours], aucs[theirs], strict=True)])
        rows.append([f"{ours} over {theirs}", gain.value, *gain.interval()])
        bench.figure(f"{ours}_vs_{theirs}_low".replace("dupn ", ""), gain.interval()[0])
    bench.table(["difference", "mean AUC", "low", "high"], rows, title="paired 95 % user bootstrap, mean of the four tasks")


def task_study(bench: Bench, plan: Plan, recipe: Recipe) -> None:
    """Each task alone against the four together, with the same network."""
    rows: list[list[Cell]] = []
    model, options = MODELS[ALL]
    four, setting = Prepared(with_tasks(recipe, TASKS)), Setting(CONFIG, options)
    together = [run(four, TASKS, model, seed, setting, plan.work, progress=plan.progress) for seed in plan.seeds]
    for task in TASKS:
        data = Prepared(with_tasks(recipe, (task,)))
        reads = {name: read for name, read in options["reads"].items() if name == task}
        config = replace(CONFIG, monitor_tasks=(task,))
        setting = Setting(config, {**options, "reads": reads})
        alone = [run(data, (task,), model, seed, setting, plan.work, progress=plan.progress) for seed in plan.seeds]
        (many,), (one,) = _aucs(plan, recipe, together, (task,)), _aucs(plan, recipe, alone, (task,))
        gain = many - one
        rows.append([task, one.value, many.value, gain.value, *gain.interval(), _seconds(alone), _seconds(together)])
    heads = ["task", "alone", "together", "gain", "low", "high", "seconds alone", "seconds together"]
    bench.table(heads, rows, title="One task or four: AUC of the averaged predictions")


def transfer_study(bench: Bench, plan: Plan, recipe: Recipe) -> None:
    """The representation learned on four tasks carried to a new one, four ways: AUC against seconds."""
    found: dict[str, list[tuple[Floats, float, list[list[float]]]]] = {mode: [] for mode in MODES}
    for seed in plan.seeds:
        paths = {mode: plan.work / f"transfer-{mode}-{seed}.json" for mode in MODES}
        if not all(path.is_file() for path in paths.values()):
            _transfer(plan, recipe, seed, paths)
        for mode, path in paths.items():
            kept = json.loads(path.read_text())
            found[mode].append((np.array(kept["predictions"]), kept["seconds"], kept["curve"]))
    label = recipe.test[NEW_TASK]
    aucs = {mode: plan.boot.auc(label, np.mean([p for p, _, _ in runs], 0)) for mode, runs in found.items()}
    rows: list[list[Cell]] = []
    for mode, says in MODES.items():
        gain, seconds = aucs[mode] - aucs["rs"], float(np.mean([s for _, s, _ in found[mode]]))
        curve = " ".join(f"{score:.3f}@{second:.0f}s" for second, score in found[mode][0][2])
        rows.append([f"{mode}: {says}", aucs[mode].value, gain.value, *gain.interval(), seconds, curve])
        bench.figure(f"transfer_{mode}_auc", aucs[mode].value)
    heads = ["mode", "AUC", "over rs", "low", "high", "seconds", "validation AUC by second, first seed"]
    bench.table(heads, rows, title=f"Transfer to {NEW_TASK}, averaged over seeds")


STUDIES = {"variants": variant_study, "tasks": task_study, "transfer": transfer_study}


def _transfer(plan: Plan, recipe: Recipe, seed: int, paths: Mapping[str, Path]) -> None:
    four = with_tasks(recipe, TASKS)
    model, options = MODELS[ALL]
    learned = train(
        four.spec, model, train=four.train, valid=four.valid, config=CONFIG, options=options, seed=seed, progress=plan.progress
    )
    for mode, path in paths.items():
        config = replace(CONFIG, monitor_tasks=(NEW_TASK,))
        made = transfer(
            learned,
            recipe.spec.tasks[NEW_TASK],
            mode,
            train_log=recipe.train,
            valid_log=recipe.valid,
            config=config,
            seed=seed,
            progress=plan.progress,
        )
        predictions = made.trained.predictor.predict(recipe.test)[NEW_TASK]
        kept = {"predictions": predictions.tolist(), "seconds": made.seconds, "curve": made.curve}
        partial_path = path.with_name(f".{path.name}.{os.getpid()}")
        partial_path.write_text(json.dumps(kept))
        partial_path.replace(path)


def with_tasks(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe for some of its tasks."""
    tasks: list[TaskSpec] = [recipe.spec.tasks[name] for name in names]
    return replace(recipe, spec=_spec(recipe.spec, TaskSet(tasks), recipe.spec.features))


def _spec(spec: FeatureSpec, tasks: TaskSet, features: Sequence[Any]) -> FeatureSpec:
    return FeatureSpec(
        features, tasks, user=spec.user, item=spec.item, time=spec.time, scenario=spec.scenario, weight=spec.weight
    )


def _aucs(plan: Plan, recipe: Recipe, outcomes: Sequence[Outcome], tasks: Sequence[str]) -> list[Resampled]:
    return [plan.boot.auc(recipe.test[task], averaged(outcomes, task)) for task in tasks]


def _spread(outcomes: Sequence[Outcome]) -> float | None:
    """Standard deviation over seeds of the mean AUC of the validation rows."""
    return float(np.std([outcome.chosen_by for outcome in outcomes], ddof=1)) if len(outcomes) > 1 else None


def _seconds(outcomes: Sequence[Outcome]) -> float:
    return float(np.mean([outcome.seconds for outcome in outcomes]))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", help="folder that keeps finished runs, so that a killed study goes on; a temporary one else")
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES), help="which; all by default")
    parser.add_argument("--finished", action="store_true", help="variants: train nothing more, compare what --work holds")
    parser.add_argument("--seeds", type=int, help="how many seeds; 3, or 1 with --quick")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


if __name__ == "__main__":
    main()
