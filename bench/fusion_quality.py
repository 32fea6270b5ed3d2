"""What searching or learning a fusion is worth on KuaiRand: MTF-GAUC on 05-04..05-06 beside hand-set weights and random draws.

Every score is out of sample: rankers trained on the days before 04-28, 05-01 and 05-04 score three days each. Families and
learned models are chosen on three rolling days, 05-01..05-03: each is fitted on the scored days before such a day and judged
on it, and the simplest within one standard error of the best mean wins. What is chosen is fitted once more on 04-28..05-03
and judged once on 05-04..05-06. `hand_set` is the expected reward itself: the objective's gains times calibrated probabilities.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.fusion_contest import FAMILIES, LEARNED, ROUNDS, Answer, Contest, Effort, choose
from bench.harness import ROOT, Bench, Cell, data_folder
from core.arrays import Floats
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.search.bootstrap import interval, user_draws
from ranker.crossfit import cross_fit
from ranker.recipes import kuairand

TASKS = ("click", "long_view", "like", "follow", "comment", "forward", "profile_enter")
EARLY_DAYS = (20220428, 20220429, 20220430)
ROLLING_DAYS, JUDGED_DAYS = (20220501, 20220502, 20220503), (20220504, 20220505, 20220506)
SEARCHERS = ("grid", "tpe", "nsga2")  # over weighted sums, beside every family's cma_es
MODEL = "mmoe"
FIGURES = [
    "kuairand_hand_set",
    "kuairand_random200",
    "kuairand_best_formula",
    "kuairand_best_learned",
    "formula_gain_low",
    "learned_gain_low",
]
QUICK, FULL = Effort(64, 128, 200), Effort(300, 600, 1_000)


def main() -> None:
    """Score, choose, judge, print."""
    bench = Bench("fusion_quality", FIGURES, arguments=_arguments)
    folder = data_folder("kuairand_pure")
    if folder is None:
        bench.note("kuairand", "the data is not there; set SCOREFUSION_DATA")
        bench.finish()
        return
    work = Path(bench.args.work) / ("quick" if bench.quick else "full")
    log = scored(folder, work, quick=bench.quick)
    tasks = TaskSet([kuairand.spec_for(TASKS).tasks[task] for task in TASKS])
    effort = QUICK if bench.quick else FULL
    formula, learned, rounds = _choose(bench, log, tasks, work, effort)
    judged = np.isin(log["date"], JUDGED_DAYS)
    last = Contest(log.take(~judged), log.take(judged), tasks, work / "judged", effort, rolling=False)
    _judge(bench, last, formula, learned, rounds)
    bench.finish()


def scored(folder: Path, work: Path, *, quick: bool) -> LoggedDataset:
    """04-28..05-06 with out-of-sample `score_<task>` columns; each three days are kept, because they take minutes."""
    files = {days: work / f"scored-{days[0]}.parquet" for days in (EARLY_DAYS, ROLLING_DAYS, JUDGED_DAYS)}
    missing = [days for days, kept in files.items() if not kept.exists()]
    if missing:
        recipe = kuairand.load(folder, tasks=TASKS)
        whole = _together([recipe.train, recipe.valid, recipe.test])
        config = replace(recipe.config, epochs=1) if quick else recipe.config
        options = recipe.options_for(MODEL)
        for days in missing:
            found = cross_fit(
                recipe.spec, MODEL, whole, days=days, day="date", refit=len(days), config=config, options=options, seed=0
            )
            names = [name for name in found if name in (*TASKS, "user_id", "item_id", "date") or name.startswith("score_")]
            LoggedDataset({name: found[name] for name in names}).to_parquet(files[days])
    return _together([LoggedDataset.from_parquet(kept) for kept in files.values()])


def _together(parts: Sequence[LoggedDataset]) -> LoggedDataset:
    return LoggedDataset({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _choose(bench: Bench, log: LoggedDataset, tasks: TaskSet, work: Path, effort: Effort) -> tuple[str, str, Mapping[str, int]]:
    """The family, the learned model and the rounds, from the rolling days alone."""
    days = {
        day: Contest(
            log.take(log["date"] < day), log.take(log["date"] == day), tasks, work / f"rolling-{day}", effort, rolling=True
        )
        for day in ROLLING_DAYS
    }
    rounds = {kind: int(np.argmax(np.mean([c.history(kind) for c in days.values()], axis=0))) + 1 for kind in ROUNDS}
    users = np.unique(np.concatenate([contest.later["user_id"] for contest in days.values()]))
    draws = user_draws(len(users), effort.n_draws, 11)
    own = [draws[:, np.searchsorted(users, np.unique(contest.later["user_id"]))] for contest in days.values()]
    values: dict[str, Floats] = {}
    drawn: dict[str, Floats] = {}
    for name in ("hand_set", *FAMILIES, *LEARNED):
        judges = [contest.judge(_answer(contest, name, rounds).final) for contest in days.values()]
        values[name] = np.array([judge.value for judge in judges])
        drawn[name] = np.mean([judge.draws(mine) for judge, mine in zip(judges, own, strict=True)], axis=0)
    chosen: dict[tuple[str, ...], str] = {}
    error: dict[str, float] = {}
    for group in (FAMILIES, LEARNED):
        found, errors = choose({name: values[name] for name in group}, drawn)
        chosen[group], error = found, {**error, **errors}
    rows: list[list[Cell]] = [
        [name, *v, float(v.mean()), error.get(name), "chosen" if name in chosen.values() else ""] for name, v in values.items()
    ]
    bench.table(
        ["fusion", "05-01", "05-02", "05-03", "mean", "SE to best", ""], rows, title="MTF-GAUC on the rolling days, which choose"
    )
    bench.note("rounds", ", ".join(f"{kind} {n}" for kind, n in rounds.items()) + ": the best mean over the rolling days")
    return chosen[FAMILIES], chosen[LEARNED], rounds


def _answer(contest: Contest, name: str, rounds: Mapping[str, int]) -> Answer:
    if name in ("hand_set", "random200"):
        return contest.hand_set() if name == "hand_set" else contest.random200()
    if name in SEARCHERS:
        return contest.formula("weighted_sum", name)
    return contest.formula(name) if name in FAMILIES else contest.learned(name, rounds)


def _judge(bench: Bench, contest: Contest, formula: str, learned: str, rounds: Mapping[str, int]) -> None:
    """Everything on the judged days, with paired intervals over hand_set and over the chosen formula."""
    names = ("hand_set", "random200", *SEARCHERS, *FAMILIES, *LEARNED)
    answers = {name: _answer(contest, name, rounds) for name in names}
    judges = {name: contest.judge(answer.final) for name, answer in answers.items()}
    users = user_draws(judges["hand_set"].n_users, contest.effort.n_draws, 7)
    draws = {name: judge.draws(users) for name, judge in judges.items()}
    rows: list[list[Cell]] = []
    for name, judge in judges.items():
        over_hand, over_formula = (interval(draws[name] - draws[other]) for other in ("hand_set", formula))
        gains: list[Cell] = [judge.value - judges["hand_set"].value, *over_hand]
        gains += [judge.value - judges[formula].value, *over_formula]
        kind = f"weighted_sum by {name}" if name in SEARCHERS else name
        rows.append([kind, judge.value, *gains, {formula: "chosen", learned: "chosen"}.get(name, "")])
    headers = ["fusion", "MTF-GAUC", "over hand_set", "low", "high", f"over {formula}", "low", "high", ""]
    bench.table(headers, rows, title=f"KuaiRand 05-04..05-06, judged once: {len(contest.later):,} impressions")
    for figure, name in zip(FIGURES, ("hand_set", "random200", formula, learned), strict=False):
        bench.figure(figure, judges[name].value)
    bench.figure("formula_gain_low", interval(draws[formula] - draws["hand_set"]).low)
    bench.figure("learned_gain_low", interval(draws[learned] - draws[formula]).low)
    bench.note("kuairand_best_formula", f"{formula} by cma_es: {answers[formula].words}")
    bench.note("kuairand_best_learned", f"{learned}, {answers[learned].words}")
    bench.note("scores", f"{MODEL} as the recipe trains it, cross-fitted; intervals redraw users and keep the fusions paired")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work", default=str(ROOT / "runs" / "fusion_quality"), help="keeps scores and answers; a killed run goes on from here"
    )


if __name__ == "__main__":
    main()
