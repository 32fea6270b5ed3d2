"""What searching or learning a fusion is worth on KuaiRand: MTF-GAUC on 05-04..05-06 beside hand-set weights and random draws.

Every score is out of sample: a ranker trained up to 04-29 scores 05-01..05-03, one trained up to 05-02 scores 05-04..05-06.
Formulas are calibrated and searched on 05-01..05-02, the family is chosen on 05-03, and only then judged. `hand_set` is the
expected reward itself: the objective's own gains times calibrated probabilities.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.harness import ROOT, Bench, Cell, data_folder
from core.arrays import Floats
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet
from fusion.calibrate import fit
from fusion.formula import Formula
from fusion.formula.families import family, weighted_sum_of
from fusion.fused import FusionStrategy
from fusion.learned.fit import LEARNERS, learn
from fusion.search import Evaluator, Objective, Panel, Param, SearchResult, Space, mtf_gauc, search, split_days
from fusion.search.bootstrap import draw_values, interval, panel_draws
from ranker.crossfit import cross_fit
from ranker.recipes import kuairand

TASKS = ("click", "long_view", "like", "follow", "comment", "forward", "profile_enter")
GAINS = {"click": 1.0, "long_view": 2.0, "like": 5.0, "follow": 10.0, "comment": 10.0, "forward": 10.0, "profile_enter": 3.0}
SEARCH_DAYS, JUDGED_DAYS = (20220501, 20220502, 20220503), (20220504, 20220505, 20220506)
FAMILIES = ("weighted_sum", "log_sum", "power_product", "rank_sum")
FIGURES = [
    "kuairand_hand_set",
    "kuairand_random200",
    "kuairand_best_formula",
    "kuairand_best_learned",
    "formula_gain_low",
    "learned_gain_low",
]


def main() -> None:
    """Score, search, judge, print."""
    bench = Bench("fusion_quality", FIGURES, arguments=_arguments)
    folder = data_folder("kuairand_pure")
    if folder is None:
        bench.note("kuairand", "the data is not there; set SCOREFUSION_DATA")
        bench.finish()
        return
    log = scored(folder, Path(bench.args.work), epochs=1 if bench.quick else 3)
    known = log.take(np.isin(log["date"], SEARCH_DAYS))
    judged = log.take(np.isin(log["date"], JUDGED_DAYS))
    before, chooser = split_days(known, "date")
    tasks = TaskSet([kuairand.spec_for(TASKS).tasks[task] for task in TASKS])
    calibration = fit(before, tasks)
    objective = Objective([mtf_gauc(GAINS)])
    results: dict[str, SearchResult] = {}
    for name in FAMILIES:
        f = family(name, tasks)
        space = Space([Param(p, *limits) for p, limits in f.ranges.items()], f.scale_free)
        results[name] = search(
            f.formula, before, chooser, space=space, objective=objective, hand_set=GAINS, searcher=bench.args.searcher,
            n_trials=200 if bench.quick else 2_000, calibration=calibration, seed=1,
        )  # fmt: skip
    chosen = max(results, key=lambda name: results[name].value_heldout)
    panel = Panel(calibration.apply_log(judged), objective)
    best_draws = _judge(bench, results, chosen, panel)
    _learned(bench, calibration.apply_log(before), Panel(calibration.apply_log(chooser), objective), panel, tasks, best_draws)
    bench.note(
        "kuairand_best_formula", f"{chosen}, chosen on 05-03 among {len(results)} families: {results[chosen].formula.text}"
    )
    bench.finish()


def scored(folder: Path, work: Path, *, epochs: int) -> LoggedDataset:
    """05-01..05-06 with out-of-sample `score_<task>` columns; kept below `work`, because it takes minutes."""
    kept = work / f"kuairand-mmoe-{epochs}.parquet"
    if not kept.exists():
        recipe = kuairand.load(folder, tasks=TASKS)
        parts = [recipe.train, recipe.valid, recipe.test]
        whole = LoggedDataset({name: np.concatenate([part[name] for part in parts]) for name in recipe.train})
        config = replace(recipe.config, epochs=epochs)
        found = cross_fit(
            recipe.spec, "mmoe", whole, days=(*SEARCH_DAYS, *JUDGED_DAYS), day="date", refit=3, config=config, seed=0
        )
        names = [name for name in found if name in (*TASKS, "user_id", "item_id", "date") or name.startswith("score_")]
        LoggedDataset({name: found[name] for name in names}).to_parquet(kept)
    return LoggedDataset.from_parquet(kept)


def _judge(bench: Bench, results: dict[str, SearchResult], chosen: str, panel: Panel) -> Floats:
    """All families on the judged days, each with its paired interval over hand_set."""
    draws = panel_draws(panel, 200 if bench.quick else 1_000, seed=7)
    hand = Evaluator(weighted_sum_of(GAINS), panel)
    vector = np.array([list(GAINS.values())])
    hand_value, hand_draws = float(hand(vector).values[0]), draw_values(hand, vector, draws)[:, 0]
    random = np.array([[results[chosen].random200.weights[task] for task in GAINS]])
    rows: list[list[Cell]] = [
        ["hand_set", hand_value, None, None],
        ["best of 200 random", float(hand(random).values[0]), None, None],
    ]
    for name, result in results.items():
        judge = Evaluator(result.formula, panel)
        weights = np.array([[result.weights[param] for param in result.formula.params]])
        own = draw_values(judge, weights, draws)[:, 0]
        value, gained = float(judge(weights).values[0]), interval(own - hand_draws)
        rows.append([name, value, gained.low, gained.high])
        if name == chosen:
            best_draws = own
            bench.figure("kuairand_best_formula", value)
            bench.figure("formula_gain_low", gained.low)
    bench.table(
        ["formula", "MTF-GAUC 05-04..06", "gain low", "gain high"], rows, title=f"KuaiRand, {panel.n_rows:,} judged impressions"
    )
    bench.figure("kuairand_hand_set", hand_value)
    bench.figure("kuairand_random200", float(hand(random).values[0]))
    return best_draws


def _learned(bench: Bench, before: LoggedDataset, chooser: Panel, panel: Panel, tasks: TaskSet, best_draws: Floats) -> None:
    """Trees and the monotone network on the same days; the better one on 05-03 is judged."""
    learned: dict[str, FusionStrategy] = {
        kind: learn(kind, before, None, tasks=tasks, gains=GAINS, max_rounds=6 if bench.quick else 12, seed=0).strategy
        for kind in LEARNERS
    }
    chosen = max(learned, key=lambda name: _as_task(learned[name], chooser)(np.ones((1, 1))).values[0])
    judge = _as_task(learned[chosen], panel)
    gained = interval(draw_values(judge, np.ones((1, 1)), panel_draws(panel, len(best_draws), seed=7))[:, 0] - best_draws)
    bench.figure("kuairand_best_learned", float(judge(np.ones((1, 1))).values[0]))
    bench.figure("learned_gain_low", gained.low)
    bench.note("kuairand_best_learned", f"{chosen}, chosen on 05-03; over the best formula {gained.low:.4f} .. {gained.high:.4f}")


def _as_task(strategy: FusionStrategy, panel: Panel) -> Evaluator:
    """A strategy's final scores as a task of their own, so that the same kernel judges them."""
    names = tuple(sorted(strategy.requires))
    table = ScoreTable(names, np.stack([np.asarray(panel.log[f"score_{task}"], dtype=np.float64) for task in names], axis=1))
    fused = panel.log.with_columns({"score_fused": strategy.fuse(table, {}).final})
    return Evaluator(Formula.parse("a * fused", tasks=["fused"], params=["a"]), Panel(fused, panel.objective))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", default=str(ROOT / "runs" / "fusion_quality"), help="where the ranker's scores are kept")
    parser.add_argument("--searcher", default="cma_es", help="how the formulas are searched")


if __name__ == "__main__":
    main()
