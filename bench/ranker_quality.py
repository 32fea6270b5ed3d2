"""Ranking quality on real data: every architecture over several seeds beside the frozen LightGBM, with paired intervals.

Fair play: each model's settings and epoch, and the model whose figures are quoted, are chosen on validation rows alone; the
judged rows are read once, at the end. Intervals redraw users and keep the models paired; they hold the sampling of
users, not of seeds, whose spread stands beside.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from bench import quality_opponents
from bench.bootstrap import Resampled, UserBootstrap, mean_of
from bench.harness import Bench, Cell, data_folder
from bench.quality_runs import Outcome, Prepared, Setting, averaged, finished, judge, run
from core.arrays import Floats
from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.metrics import evaluate
from ranker.models import MODELS
from ranker.recipes import Recipe, census_income, kuairand, kuairand_sequences

KUAIRAND_TASKS = ("click", "long_view", "like", "profile_enter")
CENSUS_TASKS = ("y_income50k", "y_never_married")
MTL_MODELS = ("ple", "aesm2")
SEQUENCE_MODELS = ("din", "dupn", "cnn_max")
QUICK_MODELS = ("single_task", "shared_bottom", "mmoe")
LIGHTGBM = "lightgbm (frozen)"
SEEN = "05-04..05-06 were printed by earlier runs of this bench; what was changed since, and why, is in docs/ranker_quality.md"
FIGURES = (
    *(f"kuairand_{task}_auc" for task in KUAIRAND_TASKS),
    "kuairand_mean_gain",
    "kuairand_mean_gain_low",
    "kuairand_min_gain_low",
    *(f"kuairand_{model}_mtl_gain_low" for model in MTL_MODELS),
    "census_income_auc",
    "census_married_auc",
)
Runs = Mapping[str, Sequence[Outcome]]
HEADERS = ["model", "task", "AUC", "std", "GAUC", "users", "logloss", "ECE"]


@dataclass(frozen=True)
class Plan:
    """What this call compares."""

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    n_draws: int
    work: Path
    progress: bool
    only_finished: bool = False


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark."""
    bench = Bench("ranker_quality", FIGURES, argv=argv, arguments=_arguments)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(bench.args.work or temporary) / ("quick" if bench.quick else "full")
        work.mkdir(parents=True, exist_ok=True)
        models = tuple(bench.args.models or (QUICK_MODELS if bench.quick else MODELS))
        plan = Plan(
            models,
            tuple(range(bench.args.seeds or (1 if bench.quick else 3))),
            200 if bench.quick else 1000,
            work,
            not bench.args.no_progress,
            bench.args.finished,
        )
        for name, compare in COMPARISONS.items():
            if name in bench.args.data:
                compare(bench, plan)
    return bench.finish(partial=len(set(bench.args.data)) < len(COMPARISONS))


def compare_kuairand(bench: Bench, plan: Plan) -> None:
    """Train to 05-02, choose on 05-03, judge on 05-04..05-06 pooled."""
    folder = data_folder("kuairand_pure")
    if folder is None:
        bench.note("kuairand", "the data is not there; set SCOREFUSION_DATA")
        return
    folder = _some_users(folder, plan.work / "kuairand_some_users") if bench.quick else folder
    recipe = kuairand.load(folder, tasks=KUAIRAND_TASKS, fresh=bench.args.fresh)
    runs = _train_all(bench, plan, recipe, KUAIRAND_TASKS, lambda: kuairand_sequences.with_sequences(recipe, folder))
    theirs = quality_opponents.kuairand(folder, recipe.test, plan.work)
    rows = _quality_rows(runs, recipe, KUAIRAND_TASKS, "user_id")
    one_score = quality_opponents.single_objective(recipe, plan.work / f"one-objective-{Prepared(recipe).key}.npy")
    rows = [*_task_rows("lightgbm, one objective", dict.fromkeys(KUAIRAND_TASKS, one_score), recipe), *rows]
    if theirs is not None:
        rows = [*_task_rows(LIGHTGBM, theirs, recipe), *rows]
    bench.table(HEADERS, rows, title=f"KuaiRand, judged on {len(recipe.test):,} rows of 05-04..05-06; seeds: {_seeds(runs)}")
    if not runs:
        return
    chosen = choose(runs)
    bench.note("kuairand_click_auc", f"{chosen} is chosen: the best mean AUC on the validation day")
    for task in KUAIRAND_TASKS:
        bench.figure(f"kuairand_{task}_auc", float(np.mean([_auc(recipe, o, task) for o in runs[chosen]])))
    _gains(bench, plan, recipe, runs, theirs, chosen)


def _gains(bench: Bench, plan: Plan, recipe: Recipe, runs: Runs, theirs: Mapping[str, Floats] | None, chosen: str) -> None:
    """Paired differences to LightGBM and to single_task, and the figures made of them."""
    boot = UserBootstrap(recipe.test["user_id"], n_draws=plan.n_draws, seed=0)
    resampled = {
        model: [mean_of([boot.auc(recipe.test[t], o.predictions[t]) for o in outcomes]) for t in KUAIRAND_TASKS]
        for model, outcomes in tqdm(runs.items(), desc="user bootstrap", disable=not plan.progress, unit="model")
    }
    frozen = [boot.auc(recipe.test[t], theirs[t]) for t in KUAIRAND_TASKS] if theirs is not None else None
    rows: list[list[Cell]] = []
    for model, outcomes in runs.items():
        row: list[Cell] = [model, float(np.mean([o.chosen_by for o in outcomes]))]
        gains = _minus(resampled[model], frozen)
        row += _with_interval(gains)
        row += _with_interval(_minus(resampled[model], resampled.get("single_task")) if model != "single_task" else None)
        row += _with_interval(_minus([boot.auc(recipe.test[t], averaged(outcomes, t)) for t in KUAIRAND_TASKS], frozen))
        row += [float(np.mean([o.best_epoch for o in outcomes])), float(np.mean([o.seconds for o in outcomes]))]
        rows.append(row)
        if model == chosen and gains is not None:
            bench.figure("kuairand_mean_gain", mean_of(gains).value)
            bench.figure("kuairand_mean_gain_low", mean_of(gains).interval()[0])
            bench.figure("kuairand_min_gain_low", min(gain.interval()[0] for gain in gains))
        if model in MTL_MODELS and "single_task" in resampled:
            bench.figure(
                f"kuairand_{model}_mtl_gain_low", mean_of(_minus(resampled[model], resampled["single_task"]) or []).interval()[0]
            )
    headers = ["model", "validation", "gain", "low", "high", "MTL gain", "low", "high", "averaged", "low", "high"]
    headers += ["best epoch", "seconds"]
    title = (
        "mean AUC of the four tasks: gain over LightGBM, over single_task, and of the seeds' averaged predictions over LightGBM"
    )
    bench.table(headers, rows, title=f"{title}; paired 95 % user bootstrap")
    bench.note("kuairand_mean_gain_low", SEEN)
    if theirs is None:
        bench.note("kuairand_mean_gain", "the frozen opponent's script is not there; set SCOREFUSION_OPPONENTS")


def compare_census(bench: Bench, plan: Plan) -> None:
    """Official split; the last tenth of the training rows chooses."""
    folder = data_folder("census_income_kdd")
    if folder is None:
        bench.note("census", "the data is not there; set SCOREFUSION_DATA")
        return
    path = folder / census_income.FILE
    path = _some_rows(path, plan.work / "census_some_rows.parquet") if bench.quick else path
    recipe = census_income.load(path)
    runs = _train_all(bench, plan, recipe, CENSUS_TASKS)
    theirs = quality_opponents.census(path, plan.work) or {}
    rows: list[list[Cell]] = [[LIGHTGBM, task, theirs[task], *[None] * 5] for task in CENSUS_TASKS if task in theirs]
    rows += _quality_rows(runs, recipe, CENSUS_TASKS, None)
    bench.table(HEADERS, rows, title=f"Census, judged on {len(recipe.test):,} test rows; seeds: {_seeds(runs)}")
    if runs:
        chosen = choose(runs)
        bench.note("census_income_auc", f"{chosen} is chosen: the best mean AUC on the last tenth of the training rows")
        for name, task in zip(("census_income_auc", "census_married_auc"), CENSUS_TASKS, strict=True):
            bench.figure(name, float(np.mean([_auc(recipe, o, task) for o in runs[chosen]])))


COMPARISONS: Mapping[str, Callable[[Bench, Plan], None]] = {"kuairand": compare_kuairand, "census": compare_census}


def choose(runs: Runs) -> str:
    """The model with the best mean over seeds on validation rows; nothing else may be looked at.

    >>> runs = {name: [Outcome(name, 0, score, {}, 1.0, 1.0)] for name, score in (("mmoe", 0.7), ("ple", 0.8))}
    >>> choose(runs)
    'ple'
    """
    return max(runs, key=lambda model: float(np.mean([outcome.chosen_by for outcome in runs[model]])))


def as_shipped(recipe: Recipe, model: str, *, quick: bool = False) -> Setting:
    """How every model is trained: the recipe's own settings, found on its validation rows; the same for all.

    A quick run trains one member of each ensemble.
    """
    options = dict(recipe.options_for(model))
    return Setting(recipe.config, options | {"members": 1} if quick else options)


def _train_all(
    bench: Bench, plan: Plan, recipe: Recipe, tasks: Sequence[str], sequenced: Callable[[], Recipe] | None = None
) -> dict[str, list[Outcome]]:
    """Every model and seed, seed by seed; models that read behaviour sequences get them from `sequenced`, if there are any."""
    found: dict[str, list[Outcome]] = {}
    left_out = set()
    data = {False: Prepared(recipe)}
    if sequenced is not None and set(plan.models) & set(SEQUENCE_MODELS):
        data[True] = Prepared(sequenced())
    pairs = [(model, seed) for seed in plan.seeds for model in plan.models]
    with tqdm(total=len(pairs), desc=recipe.name, disable=not plan.progress, unit="run") as bar:
        for model, seed in pairs:
            bar.set_postfix_str(f"{model}, seed {seed}")
            if model not in left_out:
                try:
                    rows = data.get(model in SEQUENCE_MODELS, data[False])
                    setting = as_shipped(recipe, model, quick=bench.quick)
                    outcome = finished(rows, tasks, model, seed, setting, plan.work)
                    if outcome is None and not plan.only_finished:
                        outcome = run(rows, tasks, model, seed, setting, plan.work, progress=plan.progress)
                    if outcome is not None:
                        found.setdefault(model, []).append(outcome)
                except ConfigError as error:
                    left_out.add(model)
                    bench.note(f"{recipe.name} {model}", f"does not apply: {error}")
            bar.update()
    return found


def _seeds(runs: Runs) -> str:
    """How many seeds, and which models have fewer.

    >>> one = Outcome("din", 0, 0.7, {}, 1.0, 1.0)
    >>> _seeds({"ple": [one, one, one], "din": [one]}), _seeds({"ple": [one]}), _seeds({})
    ('3; 1 of din', '1', 'none')
    """
    most = max((len(outcomes) for outcomes in runs.values()), default=0)
    fewer = [f"{len(outcomes)} of {model}" for model, outcomes in runs.items() if len(outcomes) < most]
    return "; ".join([str(most or "none"), *fewer])


def _quality_rows(runs: Runs, recipe: Recipe, tasks: Sequence[str], group: str | None) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for model, outcomes in runs.items():
        judged = [judge(outcome, recipe.test, _compared(recipe, tasks), group) for outcome in outcomes]
        for task in tasks:
            aucs = [metrics[task]["auc"] for metrics in judged]
            mean = {key: float(np.mean([metrics[task][key] for metrics in judged])) for key in judged[0][task]}
            rows.append([model, task, mean["auc"], float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None, *_tail(mean)])
    return rows


def _task_rows(name: str, predictions: Mapping[str, Floats], recipe: Recipe) -> list[list[Cell]]:
    metrics = evaluate(predictions, recipe.test, _compared(recipe, KUAIRAND_TASKS), group="user_id")
    return [[name, task, m["auc"], None, *_tail(m)] for task, m in metrics.items()]


def _tail(metrics: Mapping[str, float]) -> list[Cell]:
    return [metrics["gauc"], int(metrics["gauc_groups"]) or None, metrics["logloss"], metrics["ece"]]


def _auc(recipe: Recipe, outcome: Outcome, task: str) -> float:
    return judge(outcome, recipe.test, _compared(recipe, [task]), None)[task]["auc"]


def _compared(recipe: Recipe, tasks: Sequence[str]) -> TaskSet:
    return TaskSet([task for task in recipe.spec.tasks if task.name in tasks])


def _minus(ours: Sequence[Resampled], theirs: Sequence[Resampled] | None) -> list[Resampled] | None:
    return None if theirs is None else [a - b for a, b in zip(ours, theirs, strict=True)]


def _with_interval(parts: Sequence[Resampled] | None) -> list[Cell]:
    if parts is None:
        return [None, None, None]
    mean = mean_of(parts)
    return [mean.value, *mean.interval()]


def _some_users(folder: Path, target: Path) -> Path:
    """A quick run's data: every fourth user's rows, the other files as they are."""
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        link = target / path.name
        if path.name.startswith("log_") and not link.exists():
            table = pq.read_table(path)
            pq.write_table(table.filter(pc.equal(pc.bit_wise_and(table["user_id"], 3), 0)), link)
        elif not link.exists():
            link.symlink_to(path.resolve())
    return target


def _some_rows(path: Path, target: Path) -> Path:
    table = pq.read_table(path)
    pq.write_table(table.take(np.arange(0, len(table), 4)), target)
    return target


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work", help="folder that keeps finished runs, so that a killed comparison goes on; a temporary one else"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        choices=list(COMPARISONS),
        default=list(COMPARISONS),
        help="which data sets; all by default; a record keeps what it held of the others",
    )
    parser.add_argument("--models", nargs="+", choices=list(MODELS), help="which models; all by default")
    parser.add_argument(
        "--fresh",
        choices=["moment", "day"],
        default="moment",
        help="KuaiRand statistics: up to ten minutes ago, or earlier days only",
    )
    parser.add_argument("--seeds", type=int, help="how many seeds; 3, or 1 with --quick")
    parser.add_argument("--finished", action="store_true", help="train nothing more: compare the runs that --work holds")
    parser.add_argument("--no-progress", action="store_true", help="no progress bars")


if __name__ == "__main__":
    main()
