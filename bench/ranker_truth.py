"""Architectures on worlds of known truth: falling task correlation, tower sizes, funnels, entangled scenarios, behaviours.

Every model is trained on the same rows with the same settings; its epoch is chosen on validation rows, and fresh ones judge it.
Differences are paired by seed, where a seed makes a new world, with Student 95 % intervals over seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from bench.harness import Bench, Cell
from bench.truths import Truth, behaviours, correlated, funnel, scenarios
from core.arrays import Floats, auc
from core.tasks import TaskSet, TaskSpec
from ranker.features import FeatureSpec
from ranker.train import TrainConfig, Trained, train

CORRELATION_MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "single_task": ("single_task", {"hidden": (64,)}),
    "shared_bottom": ("shared_bottom", {"hidden": (128,)}),
    "omoe": ("omoe", {"n_experts": 8, "hidden": (16,)}),
    "mmoe": ("mmoe", {"n_experts": 8, "hidden": (16,)}),
    "cgc": ("cgc", {"n_specific": 2, "n_shared": 4, "hidden": (16,)}),
    "ple, two levels": ("ple", {"n_specific": 2, "n_shared": 4, "levels": ((16,), (16,))}),
    "mmoe, two layers": ("mmoe", {"n_experts": 8, "hidden": (16, 16)}),
}
TOWERS: tuple[tuple[int, ...], ...] = ((), (8,), (32,), (128, 64))
SCENARIO_MODELS = ("shared_bottom", "mmoe", "ple", "aesm2")
VARIANTS = ("wide", "wide_deep", "dssm", "cnn_max", "din", "dupn nobp", "dupn bplstm", "dupn bpatt", "dupn all")
Results = dict[str, list[float]]
FIGURES = (
    "mmoe_vs_shared_bottom_p0_low",
    "mmoe_vs_shared_bottom_p1_low",
    "small_towers_lead_low",
    "esmm_calibration_observed",
    "clicks_only_calibration_observed",
    "esmm_calibration_unobserved",
    "aesm2_vs_together_low",
    "aesm2_vs_apart_low",
    "dupn_all_vs_nobp_low",
)


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    """Run the five studies."""
    bench = Bench("ranker_truth", FIGURES, argv=argv, arguments=_arguments)
    torch.set_num_threads(1)
    seeds = range(2 if bench.quick else 5)
    correlation_study(bench, seeds)
    tower_study(bench, seeds)
    funnel_study(bench, seeds)
    scenario_study(bench, seeds)
    behaviour_study(bench, seeds)
    return bench.finish()


def correlation_study(bench: Bench, seeds: Sequence[int]) -> None:
    """Test MSE against the true mean, over seeds, as the tasks' correlation falls."""
    n, epochs = (8_000, 12) if bench.quick else (16_000, 20)
    rows: list[list[Cell]] = []
    for p in (0.0, 1.0) if bench.quick else (0.0, 0.5, 1.0):
        found: Results = {name: [] for name in CORRELATION_MODELS}
        for seed in tqdm(seeds, desc=f"correlation {p:g}", leave=False):
            world = correlated(n, p, np.random.default_rng(seed))
            for name, (model, options) in CORRELATION_MODELS.items():
                made = _train(bench, world, world.spec, model, options, seed, epochs, learning_rate=2e-3, towers=(8,))
                test = slice(int(n * 0.8), n)
                predicted = made.predictor.predict(world.log.take(np.arange(n)[test]))
                errors = [np.mean((predicted[task] - world.truth[task][test]) ** 2) for task in world.spec.tasks.names]
                found[name].append(float(np.mean(errors)))
        for name, values in found.items():
            low, middle, high = paired(found["shared_bottom"], values)
            rows.append([f"{p:g}", name, float(np.mean(values)), float(np.std(values, ddof=1)), middle, low, high])
        if p in (0.0, 1.0):
            bench.figure(f"mmoe_vs_shared_bottom_p{p:g}_low", paired(found["shared_bottom"], found["mmoe"])[0])
    heads = ["p", "model", "MSE", "std", "less than shared_bottom", "low", "high"]
    bench.table(heads, rows, title="Two regressions of correlation p: mean squared error against the true mean")


def tower_study(bench: Bench, seeds: Sequence[int]) -> None:
    """Test MSE against the true mean by the towers' size, on few rows, where a large tower could learn them by heart."""
    n, epochs = (4_000, 15) if bench.quick else (8_000, 30)
    rows: list[list[Cell]] = []
    for model, options in (("shared_bottom", {"hidden": (128,)}), ("mmoe", {"n_experts": 8, "hidden": (16,)})):
        found: dict[tuple[int, ...], list[float]] = {size: [] for size in TOWERS}
        for seed in tqdm(seeds, desc=f"towers of {model}", leave=False):
            world = correlated(n, 0.5, np.random.default_rng(seed))
            test = slice(int(n * 0.8), n)
            for size in TOWERS:
                made = _train(bench, world, world.spec, model, options, seed, epochs, learning_rate=2e-3, towers=size)
                predicted = made.predictor.predict(world.log.take(np.arange(n)[test]))
                errors = [np.mean((predicted[task] - world.truth[task][test]) ** 2) for task in world.spec.tasks.names]
                found[size].append(float(np.mean(errors)))
        for size, values in found.items():
            low, middle, high = paired(found[TOWERS[-1]], values)
            towers = "x".join(map(str, size)) or "none"
            rows.append([model, towers, float(np.mean(values)), float(np.std(values, ddof=1)), middle, low, high])
        if model == "mmoe":
            bench.figure("small_towers_lead_low", paired(found[TOWERS[-1]], found[(8,)])[0])
    heads = ["model", "towers", "MSE", "std", "less than the largest", "low", "high"]
    bench.table(heads, rows, title="Tower sizes on few rows: mean squared error against the true mean")


def funnel_study(bench: Bench, seeds: Sequence[int]) -> None:
    """pCVR over the entire space: calibration ratio, error against the true probability, AUC of what would be bought."""
    n, epochs = (30_000, 6) if bench.quick else (60_000, 10)
    only = TaskSet([TaskSpec("click"), TaskSpec("buy", sample_space="click")])
    rows: list[list[Cell]] = []
    for kind, hidden in (("observed", 0.0), ("unobserved", 1.2)):
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        for seed in tqdm(seeds, desc=f"funnel, {kind}", leave=False):
            world = funnel(n, hidden, np.random.default_rng(seed))
            clicks_only = FeatureSpec(world.spec.features, only)
            for name, spec, model, options in (
                ("clicks only", clicks_only, "shared_bottom", {}),
                ("esmm", world.spec, "esmm", {}),
                ("escm2 ips", world.spec, "escm2", {"estimator": "ips"}),
                ("escm2 dr", world.spec, "escm2", {"estimator": "dr"}),
            ):
                made = _train(bench, world, spec, model, {"hidden": (64, 32), **options}, seed, epochs, learning_rate=1e-3)
                test = np.arange(int(n * 0.8), n)
                predicted = made.predictor.predict(world.log.take(test))
                cvr = predicted["buy"] if name == "clicks only" else predicted["buy"] / np.maximum(predicted["click"], 1e-7)
                found.setdefault(name, []).append(judge_cvr(cvr, world, test))
        for name, values in found.items():
            mean, std = np.mean(values, 0), np.std(values, 0, ddof=1)
            rows.append([kind, name, *(float(v) for pair in zip(mean, std, strict=True) for v in pair)])
            key = name.replace(" ", "_")
            if f"{key}_calibration_{kind}" in bench.figures:
                bench.figure(f"{key}_calibration_{kind}", float(mean[0]))
    heads = ["selection on", "model", "calibration", "std", "RMSE", "std", "AUC all", "std", "AUC clicked", "std"]
    bench.table(heads, rows, title="pCVR of every impression, clicked or not")


def scenario_study(bench: Bench, seeds: Sequence[int]) -> None:
    """Mean AUC of both tasks in each scenario: trained apart, together, and with expert selection."""
    n, epochs = (16_000, 8) if bench.quick else (30_000, 15)
    aucs: dict[str, list[list[float]]] = {}
    for seed in tqdm(seeds, desc="scenarios", leave=False):
        world = scenarios(n, np.random.default_rng(seed))
        test = np.arange(int(n * 0.8), n)
        judged = world.log.take(test)
        apart = {task: np.zeros(len(test)) for task in world.spec.tasks.names}
        for value in (0, 1):
            own = world.log.take(world.log["scenario"] == value)
            made = _train(
                bench,
                Truth(own, world.spec, {}),
                world.spec,
                "mmoe",
                {},
                seed,
                epochs,
                learning_rate=3e-3,
                limit=int((np.asarray(world.log["scenario"][: int(n * 0.8)]) == value).sum()),
            )
            mine = judged["scenario"] == value
            for task, predicted in made.predictor.predict(judged.take(mine)).items():
                apart[task][mine] = predicted
        aucs.setdefault("mmoe, apart", []).append(_by_scenario(apart, world, test))
        for model in SCENARIO_MODELS:
            made = _train(bench, world, world.spec, model, {}, seed, epochs, learning_rate=3e-3)
            aucs.setdefault(f"{model}, together", []).append(_by_scenario(made.predictor.predict(judged), world, test))
    rows: list[list[Cell]] = []
    ours = [float(np.mean(v)) for v in aucs["aesm2, together"]]
    for name, values in aucs.items():
        low, middle, high = paired(ours, [float(np.mean(v)) for v in values])
        rows.append([name, *(float(v) for v in np.mean(values, 0)), float(np.mean(values)), middle, low, high])
    heads = ["model", "click, large", "buy, large", "click, small", "buy, small", "mean AUC", "aesm2's lead", "low", "high"]
    bench.table(heads, rows, title="Two entangled scenarios, one with a fifth of the rows")
    means = {name: [float(np.mean(v)) for v in values] for name, values in aucs.items()}
    bench.figure("aesm2_vs_together_low", paired(means["aesm2, together"], means["mmoe, together"])[0])
    bench.figure("aesm2_vs_apart_low", paired(means["aesm2, together"], means["mmoe, apart"])[0])


def behaviour_study(bench: Bench, seeds: Sequence[int]) -> None:
    """AUC of clicks where the property of a behaviour says how much it means."""
    n, epochs = (15_000, 8) if bench.quick else (30_000, 12)
    found: Results = {}
    for seed in tqdm(seeds, desc="behaviours", leave=False):
        world = behaviours(n, np.random.default_rng(seed))
        test = np.arange(int(n * 0.8), n)
        label = world.log["click"][test] > 0
        for name in VARIANTS:
            model, _, variant = name.partition(" ")
            options: dict[str, Any] = {"n_hidden": 32, "n_rep": 64} if model == "dupn" else {}
            if variant:
                options["variant"] = variant
            made = _train(
                bench, world, world.spec, model, options, seed, epochs, learning_rate=3e-3, batch_size=128, embedding_rate=2e-2
            )
            found.setdefault(name, []).append(auc(label, made.predictor.predict(world.log.take(test))["click"]))
        found.setdefault("the truth", []).append(auc(label, world.truth["click"][test]))
    rows: list[list[Cell]] = []
    for name, values in found.items():
        low, middle, high = paired(found["dupn all"], values)
        rows.append([name, float(np.mean(values)), float(np.std(values, ddof=1)), middle, low, high])
    bench.table(["model", "AUC", "std", "dupn's lead", "low", "high"], rows, title="Behaviours whose property tells their weight")
    bench.figure("dupn_all_vs_nobp_low", paired(found["dupn all"], found["dupn nobp"])[0])


def judge_cvr(cvr: Floats, world: Truth, rows: Any) -> tuple[float, float, float, float]:
    """Calibration ratio and RMSE against the true probability, AUC over all rows and over clicked rows."""
    truth, would = world.truth["buy_if_clicked"][rows], world.truth["would_buy"][rows] > 0
    clicked = world.log["click"][rows] > 0
    error = float(np.sqrt(np.mean((cvr - truth) ** 2)))
    return float(cvr.mean() / truth.mean()), error, auc(would, cvr), auc(would[clicked], cvr[clicked])


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Low, mean and high of ours minus theirs over seeds, Student 95 %.

    >>> low, middle, high = paired([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])
    >>> (low, middle, high)
    (1.0, 1.0, 1.0)
    """
    gap = np.asarray(ours, float) - np.asarray(theirs, float)
    if len(gap) < 2:
        return float("nan"), float(gap.mean()), float("nan")
    half = float(stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap)))
    return float(gap.mean()) - half, float(gap.mean()), float(gap.mean()) + half


def _train(
    bench: Bench,
    world: Truth,
    spec: FeatureSpec,
    model: str,
    options: Mapping[str, Any],
    seed: int,
    epochs: int,
    *,
    learning_rate: float = 1e-3,
    towers: Sequence[int] = (32,),
    batch_size: int = 512,
    embedding_rate: float | None = None,
    limit: int | None = None,
) -> Trained:
    """The first 64 % of the rows train, the next 16 % choose the epoch; `limit` gives the number of both together.

    With `--work` each run keeps its checkpoint there, and one that is done is read instead of trained again.
    """
    both = int(len(world.log) * 0.8) if limit is None else limit
    cut = int(both * 0.8)
    config = TrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        embedding_rate=embedding_rate,
        patience=3,
        monitor="loss",
        precision="float32",
    )
    given = dict(options) if model in ("wide", "dssm") else {"towers": towers, **options}
    rows = world.rows(0, cut)
    kept: Path | None = None
    if bench.args.work:
        run = [model, given, seed, asdict(config), spec.to_json(), rows.fingerprint()]
        kept = Path(bench.args.work) / hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]
    return train(
        spec,
        model,
        train=rows,
        valid=world.rows(cut, both),
        config=config,
        options=given,
        seed=seed,
        checkpoints=kept,
        progress=False,
    )


def _by_scenario(predictions: Mapping[str, Any], world: Truth, rows: Any) -> list[float]:
    found = []
    scenario = world.log["scenario"][rows]
    for value in (0, 1):
        mine = scenario == value
        found += [auc(world.log[task][rows][mine] > 0, np.asarray(predictions[task])[mine]) for task in world.spec.tasks.names]
    return found


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", help="folder that keeps every run's checkpoint, so that a killed bench goes on there")


if __name__ == "__main__":
    main()
