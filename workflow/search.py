"""`scorefusion search`: find a formula's weights on scored impressions, judge them on a later day, publish the strategy."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.calibrate import METHODS, fit
from fusion.formula import Formula
from fusion.formula.families import FAMILIES, family, weighted_sum_of
from fusion.search import SEARCHERS, Guardrail, Objective, Param, SearchResult, Space, gauc, mtf_gauc, ndcg, search, write
from fusion.search.segments import SegmentedResult, search_segments
from fusion.search.study import Driver, drive
from fusion.strategy import FormulaStrategy, publish
from workflow.data import mapping_option
from workflow.scored import add_scored_arguments, scored_of
from workflow.tables import table

OBJECTIVES: Final = ("mtf_gauc", "gauc", "ndcg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_scored_arguments(parser)
    parser.add_argument("--family", choices=list(FAMILIES), default="weighted_sum", help="default: %(default)s")
    parser.add_argument("--formula", metavar="TEXT", help="your own instead of a family, with --params")
    parser.add_argument("--params", metavar="YAML", help="ranges of its parameters, such as '{a: [0, 1], b: [0.01, 10]}'")
    parser.add_argument("--objective", choices=OBJECTIVES, default="mtf_gauc", help="default: %(default)s")
    parser.add_argument("--k", type=int, default=10, help="NDCG's cut-off, with --objective ndcg (default: %(default)s)")
    parser.add_argument("--hand-set", metavar="YAML", help="the weights to beat, over calibrated scores (default: the gains)")
    parser.add_argument("--calibrate", choices=METHODS, default="isotonic", help="default: %(default)s")
    parser.add_argument("--calibrate-by-scenario", action="store_true", help="again within each scenario that has the rows")
    parser.add_argument("--by", metavar="COLUMN", help="weights of their own in each scenario or cohort, such as scenario")
    parser.add_argument("--min-users", type=int, default=100, help="--by: fewer share the weights of all (default: %(default)s)")
    parser.add_argument("--searcher", choices=list(SEARCHERS), default="cem", help="default: %(default)s")
    parser.add_argument("--trials", type=int, default=1024, help="default: %(default)s")
    parser.add_argument("--guardrails", metavar="YAML", help="how much a GAUC may lose, such as '{gauc_click: 0.01}'")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="judge on N Ray workers (default: in this process)")
    parser.add_argument(
        "--batch", type=int, help="trials judged at once (default: by the searcher); large ones suit many workers"
    )
    parser.add_argument("--name", default="searched", help="the artefact is strategy/NAME (default: %(default)s)")
    parser.add_argument("--out", metavar="FOLDER", help="report and trials; a killed search goes on from here")


def run(args: argparse.Namespace) -> str:
    """Search, print, publish the hand-set control and the choice."""
    given = scored_of(args)
    tasks, gains, earlier, later = given.tasks, given.gains, given.earlier, given.later
    hand_set = mapping_option("--hand-set", args.hand_set) or gains
    formula, space = _formula(args, tasks)
    calibration = fit(earlier, tasks, args.calibrate, by_scenario=args.calibrate_by_scenario)
    wanted = objective(args.objective, gains, k=args.k, watched=watchable(gains, [earlier, later]))
    guardrails = [Guardrail(name, float(eps)) for name, eps in mapping_option("--guardrails", args.guardrails).items()]

    def search_one(before: LoggedDataset, after: LoggedDataset, folder: Path | None) -> SearchResult:
        return search(
            formula,
            before,
            after,
            space=space,
            objective=wanted,
            hand_set={name: float(value) for name, value in hand_set.items()},
            searcher=args.searcher,
            n_trials=args.trials,
            batch=args.batch,
            seed=args.seed,
            calibration=calibration,
            guardrails=guardrails,
            folder=folder,
            tasks=tasks,
            drive=_driver(args.workers),
        )

    out = Path(args.out) if args.out else None
    if args.by:
        found = search_segments(search_one, earlier, later, column=args.by, min_users=args.min_users, folder=out, seed=args.seed)
        return _by_segment(found, args, given.store, given.ranker)
    result = search_one(earlier, later, out)
    print(result_table(result))
    published = publish_result(given.store, args.name, result, given.ranker)
    where = f", report in {write(result, out) / 'report.html'}" if out else ""
    low, high = result.gain_heldout_interval
    return f"{published.path}: gain over hand_set on later days {result.gain_heldout:+.4f} [{low:+.4f}, {high:+.4f}]{where}"


def _driver(n_workers: int) -> Driver:
    if n_workers == 0:
        return drive
    from fusion.distributed import on_workers  # only here: ray takes seconds to import

    return on_workers(n_workers)


def _by_segment(found: SegmentedResult, args: argparse.Namespace, store: ArtefactStore, ranker: Artefact) -> str:
    """Print and publish weights by segment."""
    rows = [[value, *r.weights.values(), r.gain_heldout, *r.gain_heldout_interval] for value, r in found.segments.items()]
    print(result_table(found.overall))
    print(table([found.column, *found.overall.weights, "over hand_set", "low", "high"], rows))
    publish_result(store, f"{args.name}_for_all", found.overall, ranker)
    low, high = found.gain_over_one_interval
    metrics = {"gain_over_one": found.gain_over_one, "gain_over_one_interval": [low, high]}
    published = publish(
        store, args.name, found.strategy, ranker=ranker.label, seed=args.seed,
        data_fingerprint=found.overall.data_fingerprint, metrics=metrics,
    )  # fmt: skip
    where = f", report in {found.write(args.out) / 'segments.html'}" if args.out else ""
    return (
        f"{published.path}: {len(found.segments)} segments of {found.column}; gain over one set of weights on later days "
        f"{found.gain_over_one:+.4f} [{low:+.4f}, {high:+.4f}]{where}"
    )


def objective(kind: str, gains: Mapping[str, float], *, k: int = 10, watched: Sequence[str] = ()) -> Objective:
    """MTF-GAUC with these gains, or each behaviour's GAUC or NDCG@k (lists are requests) weighted by its gain.

    Args:
        watched: Behaviours whose GAUC is measured beside MTF-GAUC with weight 0: for guardrails, the front and the report.
    """
    if kind == "mtf_gauc":
        return Objective([mtf_gauc(gains), *(gauc(label, 0.0) for label in watched)])
    total = sum(abs(value) for value in gains.values())
    if kind == "ndcg":
        return Objective([ndcg(name, k, weight=value / total) for name, value in gains.items()])
    return Objective([gauc(name, value / total) for name, value in gains.items()])


def watchable(labels: Iterable[str], logs: Sequence[LoggedDataset]) -> list[str]:
    """The labels that are 0 or 1 and both in some user, in every one of the logs: those whose GAUC can be computed."""
    return [label for label in labels if all(_has_both(log, label) for log in logs)]


def _has_both(log: LoggedDataset, label: str) -> bool:
    value = np.asarray(log[label], dtype=np.float64)
    seen = np.isfinite(value)
    if not np.isin(value[seen], (0.0, 1.0)).all():
        return False
    _, user = np.unique(log["user_id"].astype(str), return_inverse=True)
    positives = np.bincount(user[seen], weights=value[seen])
    return bool(((positives > 0) & (positives < np.bincount(user[seen]))).any())


def publish_result(store: ArtefactStore, name: str, result: SearchResult, ranker: Artefact) -> Artefact:
    """The choice as `strategy/<name>` and its control as `strategy/hand_set`, both fitted to the scores of `ranker`."""
    control = {f"w_{task}": value for task, value in result.hand_set.weights.items()}
    hand = FormulaStrategy(weighted_sum_of(result.hand_set.weights), control, result.calibration)
    fingerprint = result.data_fingerprint
    value = {"value_heldout": result.hand_set.value_heldout}
    publish(store, "hand_set", hand, ranker=ranker.label, data_fingerprint=fingerprint, metrics=value)
    return publish(
        store,
        name,
        result.strategy,
        ranker=ranker.label,
        seed=result.seed,
        data_fingerprint=fingerprint,
        metrics={"value_heldout": result.value_heldout, "gain_heldout": result.gain_heldout},
        search=result.summary(),
    )


def result_table(result: SearchResult) -> str:
    """Hand-set, the best of 200 random draws and the choice: where it was chosen, and later."""
    rows: list[Sequence[object]] = [
        ["hand_set", result.hand_set.value_search, result.hand_set.value_heldout, ""],
        ["best of 200 random", result.random200.value_search, result.random200.value_heldout, ""],
        ["searched", result.value_search, result.value_heldout, "[{:.4f}, {:.4f}]".format(*result.value_heldout_interval)],
    ]
    weights = ", ".join(f"{name} {value:.3g}" for name, value in result.weights.items())
    return f"{table(['formula', 'search days', 'later days', '95 % interval'], rows)}\n{result.formula.text}\n{weights}"


def _formula(args: argparse.Namespace, tasks: TaskSet) -> tuple[Formula, Space]:
    if not args.formula:
        chosen = family(args.family, tasks)
        return chosen.formula, Space([Param(name, *chosen.ranges[name]) for name in chosen.formula.params], chosen.scale_free)
    ranges = mapping_option("--params", args.params)
    if not ranges:
        raise ConfigError("--formula needs --params, the ranges of its parameters, such as '{a: [0, 1]}'")
    for name, pair in ranges.items():
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, int | float) for x in pair)):
            raise ConfigError(f"--params: {name} is {pair!r}; give [low, high]")
    params = [Param(name, float(low), float(high)) for name, (low, high) in ranges.items()]
    return Formula.parse(args.formula, tasks=tasks.scored, params=list(ranges)), Space(params)
