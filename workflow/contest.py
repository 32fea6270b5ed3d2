"""Architectures and balances side by side over seeds: every finished run is an artefact, so a killed comparison goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker import balance, models
from ranker.config import TrainConfig
from ranker.encoder import Encoder
from ranker.metrics import evaluate
from ranker.predictor import KIND
from ranker.recipes import Recipe
from ranker.scalars import Scalars
from ranker.train import train

SINGLE = "single_task"  # what MTL gain is measured against
Numbers = Mapping[str, Mapping[str, float]]  # metrics by task


@dataclass(frozen=True)
class Entry:
    """One row of the comparison."""

    model: str
    balance: str

    def run(self, seed: int) -> str:
        """The name of one of its runs."""
        return f"{self.model}-{self.balance}-{seed}"


@dataclass(frozen=True)
class Run:
    """A finished run: how good on the rows that chose its epoch, and on those that judge."""

    entry: Entry
    seed: int
    chosen_by: float
    seconds: float
    metrics: Mapping[str, Numbers]
    artefact: Artefact


def names_of(option: str, text: str, known: Sequence[str]) -> list[str]:
    """`all`, or names with commas between.

    >>> names_of("--models", "b,a", ["a", "b", "c"])
    ['b', 'a']
    """
    names = list(known) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {text!r}: unknown {name!r}; choose all, or from {', '.join(known)}")
    return list(dict.fromkeys(names))


def contest(
    recipe: Recipe,
    entries: Sequence[Entry],
    *,
    config: TrainConfig,
    options: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    skip_unfit: bool = False,
    tensorboard: str | Path | None = None,
    progress: bool = True,
) -> tuple[list[Run], dict[str, str]]:
    """Train every entry with every seed, or read the run that is there.

    Args:
        options: By architecture.
        folder: Holds a finished run as artefact `ranker/MODEL-BALANCE-SEED` and an unfinished one's checkpoints.
        tensorboard: Scalars of every run go into a folder of its name below this one.
        skip_unfit: Leave out an entry that these data cannot feed (no sequence, nothing shared), instead of an error.

    Returns:
        The runs, and why entries were left out.

    Raises:
        ConfigError: The folder holds runs of other data or settings, or an entry does not fit.
    """
    store = ArtefactStore(folder)
    data = {name: getattr(recipe, name).fingerprint() for name in ("train", "valid", "test")}
    encoder = Encoder.fit(recipe.spec, recipe.train)
    fit, left_out = [], {}
    for entry in entries:
        try:
            network = models.make(entry.model, encoder.layout, recipe.spec.tasks, options.get(entry.model))
            balance.make(entry.balance, recipe.spec.tasks, network, _balance_options(config, entry))
            fit.append(entry)
        except ConfigError as error:
            if not skip_unfit:
                raise
            left_out[f"{entry.model} with {entry.balance}"] = str(error)
    runs = []
    bar = tqdm([(entry, seed) for seed in seeds for entry in fit], desc="comparison", unit="run", disable=not progress)
    for entry, seed in bar:
        bar.set_postfix_str(entry.run(seed))
        settings = replace(config, balance=entry.balance, balance_options=_balance_options(config, entry))
        said = {"data": data, "settings": asdict(settings), "options": dict(options.get(entry.model, {}))}
        artefact = _finished(store, entry.run(seed), recipe, said)
        if artefact is None:
            artefact = _train(recipe, entry, seed, settings, said, encoder, store, tensorboard, progress)
        kept = artefact.manifest["metrics"]
        metrics = {part: {t: _floats(row) for t, row in kept[part].items()} for part in ("valid", "test")}
        runs.append(Run(entry, seed, float(kept["chosen_by"]), float(kept["seconds"]), metrics, artefact))
    if not runs:
        raise ConfigError(f"none of the compared rankers fits these data: {'; '.join(left_out.values())}")
    return runs, left_out


def _train(
    recipe: Recipe,
    entry: Entry,
    seed: int,
    config: TrainConfig,
    said: Mapping[str, Any],
    encoder: Encoder,
    store: ArtefactStore,
    tensorboard: str | Path | None,
    progress: bool,
) -> Artefact:
    checkpoints = store.root / "checkpoints" / entry.run(seed)
    start = time.perf_counter()
    trained = train(
        recipe.spec,
        entry.model,
        train=recipe.train,
        valid=recipe.valid,
        config=config,
        options=said["options"],
        seed=seed,
        encoder=encoder,
        checkpoints=checkpoints,
        watch=Scalars(Path(tensorboard) / entry.run(seed)) if tensorboard else None,
        progress=progress,
    )
    predictor = trained.predictor
    made = predictor.publish(
        store,
        entry.run(seed),
        seed=seed,
        data_fingerprint=said["data"]["train"],
        train=asdict(config),
        metrics={
            "said": said,
            "chosen_by": max(row["score"] for row in trained.history),
            "seconds": round(time.perf_counter() - start, 2),
            "valid": _plain(trained.metrics),
            "test": _plain(_judged(predictor.predict(recipe.test), recipe.test, recipe)),
        },
    )
    shutil.rmtree(checkpoints, ignore_errors=True)
    return made


def _finished(store: ArtefactStore, name: str, recipe: Recipe, said: Mapping[str, Any]) -> Artefact | None:
    if not store.versions(KIND, name):
        return None
    found = store.load(KIND, name)
    spec = found.read_json("encoder.json")["spec"]
    if found.manifest["metrics"].get("said") != _jsoned(said) or spec != _jsoned(recipe.spec.to_json()):
        raise ConfigError(
            f"{str(found.path)!r} is a run with other data, features or settings; choose another folder for this comparison"
        )
    return found


def _judged(predictions: Mapping[str, Any], rows: LoggedDataset, recipe: Recipe) -> Numbers:
    labelled = TaskSet([task for task in recipe.spec.tasks if task.name in rows])
    return evaluate(predictions, rows, labelled, group=recipe.spec.user)


def chosen(runs: Sequence[Run]) -> tuple[Entry, Run]:
    """The entry with the highest mean score on the validation rows, and its best run there."""
    entries = dict.fromkeys(run.entry for run in runs)
    best = max(entries, key=lambda entry: float(np.mean([run.chosen_by for run in runs if run.entry == entry])))
    return best, max((run for run in runs if run.entry == best), key=lambda run: run.chosen_by)


def summary(runs: Sequence[Run], part: str) -> list[dict[str, Any]]:
    """One row an entry and task: mean and standard deviation over seeds of each metric, and the MTL gain.

    The gain is AUC (for a regression minus RMSE) against `single_task` of the same seed and, where it was run, the same balance.
    """
    rows = []
    for entry in dict.fromkeys(run.entry for run in runs):
        own = [run for run in runs if run.entry == entry]
        for task in own[0].metrics[part]:
            row: dict[str, Any] = {"model": entry.model, "balance": entry.balance, "task": task, "n_seeds": len(own)}
            for metric in own[0].metrics[part][task]:
                row[metric] = _spread([run.metrics[part][task].get(metric, np.nan) for run in own])
            gains = [_gain(run, _single(runs, run), part, task) for run in own]
            row["gain"] = _spread([gain for gain in gains if gain is not None])
            rows.append(row)
    return rows


def _single(runs: Sequence[Run], run: Run) -> Run | None:
    same = [other for other in runs if other.entry.model == SINGLE and other.seed == run.seed]
    return next((other for other in same if other.entry.balance == run.entry.balance), same[0] if same else None)


def _gain(run: Run, single: Run | None, part: str, task: str) -> float | None:
    if single is None or run.entry.model == SINGLE:
        return None
    ours, theirs = run.metrics[part][task], single.metrics[part][task]
    if "auc" in ours:
        return ours["auc"] - theirs["auc"]
    return theirs["rmse"] - ours["rmse"] if "rmse" in ours else None


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and sample standard deviation; NaN where there are too few numbers."""
    return {
        "mean": float(np.mean(values)) if len(values) else float("nan"),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
    }


def _balance_options(config: TrainConfig, entry: Entry) -> Mapping[str, Any]:
    return config.balance_options if entry.balance == config.balance else {}


def _plain(metrics: Numbers) -> dict[str, dict[str, float | None]]:
    return {task: {k: None if np.isnan(v) else v for k, v in row.items()} for task, row in metrics.items()}


def _floats(row: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else float(value) for name, value in row.items()}


def _jsoned(value: Any) -> Any:
    """As it comes back from a JSON file: tuples as lists."""
    if isinstance(value, Mapping):
        return {str(k): _jsoned(v) for k, v in value.items()}
    return [_jsoned(v) for v in value] if isinstance(value, list | tuple) else value
