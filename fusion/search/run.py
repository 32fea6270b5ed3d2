"""The search itself: ask, judge, tell; then judge the choice on a later day, beside hand-set weights and 200 random draws."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from core.arrays import Floats, Ints
from core.errors import ConfigError, DataError
from core.events import SCORE
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.formula.families import weighted_sum_of
from fusion.formula.monotone import direction
from fusion.search.bootstrap import Interval, draw_terms, draw_values, interval, panel_draws
from fusion.search.evaluator import Evaluator
from fusion.search.guardrails import Guardrail
from fusion.search.journal import Journal
from fusion.search.objective import Objective
from fusion.search.panel import Panel
from fusion.search.report import Baseline, Gain, SearchResult
from fusion.search.searcher import Answers
from fusion.search.sensitivity import sensitivity
from fusion.search.space import Space
from fusion.search.study import SEARCHERS, Driver, Study, drive

N_RANDOM: Final = 200
_REFIT_TRIALS: Final = 300  # the best trials that the bootstrap chooses among again


def search(
    formula: Formula,
    log: LoggedDataset,
    heldout: LoggedDataset,
    *,
    space: Space,
    objective: Objective,
    hand_set: Mapping[str, float],
    searcher: str = "sobol",
    n_trials: int = 512,
    batch: int | None = None,
    seed: int = 0,
    calibration: Calibration | None = None,
    guardrails: Sequence[Guardrail] = (),
    n_draws: int = 200,
    n_threads: int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    tasks: TaskSet | None = None,
    drive: Driver = drive,
) -> SearchResult:
    """Look for the parameters of a formula that rank a log best, and say what they are worth later.

    Args:
        log, heldout: Impressions of the search days and of a later day: `score_<task>` (out of sample), the labels, `user_id`
            and, for formulas with rank() or for NDCG, `request_id`.
        space: The parameters' ranges; its names are the formula's.
        hand_set: Declared weights w_k; sum_k w_k * calibrated p_k is the control.
        searcher: One of SEARCHERS.
        calibration: Applied to the scores of every formula judged here; publish it with the strategy.
        guardrails: Metrics that may not fall below the control's by more than their eps.
        n_draws: User-bootstrap draws behind the intervals.
        folder: Where trials are kept while the search runs, so that it resumes after a kill.
        tasks: With them the result says how each task's score moves the chosen final: proved, not sampled.
        drive: Who judges the trials: this process, or `fusion.distributed.on_workers(n)`.

    Raises:
        ConfigError, DataError: Names, ranges, metrics and data do not fit each other.
    """
    if searcher not in SEARCHERS:
        raise ConfigError(f"unknown searcher {searcher!r}; searchers are {', '.join(SEARCHERS)}")
    if space.names != formula.params:
        raise ConfigError(
            f"the space has parameters {', '.join(space.names)}, the formula {', '.join(formula.params)}; make them equal"
        )
    if n_trials < 1:
        raise ConfigError(f"n_trials {n_trials} must be at least 1")
    if calibration is not None:
        log, heldout = calibration.apply_log(log), calibration.apply_log(heldout)
    panels = {"search": Panel(log, objective), "heldout": Panel(heldout, objective)}
    judges = {name: Evaluator(formula, panel, n_threads=n_threads) for name, panel in panels.items()}
    _check_scale(judges["search"], space, seed)
    linear = weighted_sum_of(hand_set)
    controls = {name: Evaluator(linear, panel, n_threads=n_threads) for name, panel in panels.items()}
    hand_vector = np.array([[float(hand_set[task]) for task in hand_set]])
    control = controls["search"](hand_vector)

    settings = {
        "formula": formula.to_json(),
        "space": space.to_json(),
        "objective": objective.to_json(),
        "searcher": [searcher, n_trials, batch, seed],
        "guardrails": [[g.metric, g.eps] for g in guardrails],
        "hand_set": dict(hand_set),
        "data": _fingerprint(panels["search"].log, formula, objective),
    }
    study = Study(
        space,
        objective,
        searcher=searcher,
        n_trials=n_trials,
        batch=batch,
        seed=seed,
        guardrails=guardrails,
        control=control.terms[0],
        journal=Journal(Path(folder) / "trials.jsonl" if folder is not None else None, settings),
    )
    drive(study, judges["search"], progress)
    unit, evaluation, violated = study.trials()
    vectors = space.decode(unit)
    order = Answers(evaluation.values, objective.signed(evaluation.terms), violated).best_first()
    best = int(order[0])
    if not np.isfinite(evaluation.values[best]):
        raise DataError(f"no trial of {formula} has a finite value; add offsets to the formula or declare a floor")

    random_vectors = np.exp(np.random.default_rng(seed + 1).uniform(np.log(0.01), np.log(100.0), (N_RANDOM, len(hand_set))))
    random_vectors *= np.sign(hand_vector) + (hand_vector == 0)
    random_best = int(np.nanargmax(controls["search"](random_vectors).values))

    chosen = vectors[best : best + 1]
    later, later_control = judges["heldout"](chosen), controls["heldout"](hand_vector)
    draws = panel_draws(panels["heldout"], n_draws, seed + 2)
    chosen_draws = draw_values(judges["heldout"], chosen, draws)[:, 0]
    control_draws = draw_values(controls["heldout"], hand_vector, draws)[:, 0]
    term_draws = draw_terms(judges["heldout"], chosen, draws)[:, 0] - draw_terms(controls["heldout"], hand_vector, draws)[:, 0]
    gains = {
        name: Gain(float(later_control.terms[0, m]), float(later.terms[0, m]), interval(term_draws[:, m]))
        for m, name in enumerate(objective.names)
    }
    weight_intervals, error = _refit(judges["search"], space, vectors, order, violated, n_draws, seed + 3)
    weights = space.as_dict(vectors[best])
    return SearchResult(
        formula=formula,
        space=space,
        objective=objective,
        searcher=searcher,
        seed=seed,
        status="ok" if violated[best] == 0 else "no_trial_keeps_the_guardrails",
        weights=weights,
        weight_intervals=weight_intervals,
        value_search=float(evaluation.values[best]),
        value_heldout=float(later.values[0]),
        value_heldout_interval=interval(chosen_draws),
        terms_search=dict(zip(objective.names, evaluation.terms[best].tolist(), strict=True)),
        terms_heldout=dict(zip(objective.names, later.terms[0].tolist(), strict=True)),
        hand_set=Baseline(dict(hand_set), float(control.values[0]), float(later_control.values[0])),
        random200=Baseline(
            dict(zip(hand_set, random_vectors[random_best].tolist(), strict=True)),
            float(controls["search"](random_vectors[random_best : random_best + 1]).values[0]),
            float(controls["heldout"](random_vectors[random_best : random_best + 1]).values[0]),
        ),
        gain_heldout=float(later.values[0] - later_control.values[0]),
        gain_heldout_interval=interval(chosen_draws - control_draws),
        gains_heldout=gains,
        guardrails=tuple(guardrails),
        directions={} if tasks is None else {task: direction(formula, task, weights, tasks) for task in formula.tasks},
        goals={} if tasks is None else {task: tasks[task].goal for task in formula.tasks},
        sensitivity=sensitivity(judges["search"], space, unit[best], error, seed=seed + 4),
        vectors=vectors,
        values=evaluation.values,
        terms=evaluation.terms,
        violations=violated,
        n_nonfinite=evaluation.n_nonfinite,
        calibration=calibration,
        data_fingerprint=str(settings["data"]),
    )


def split_days(log: LoggedDataset, day: str = "date", n_heldout: int = 1) -> tuple[LoggedDataset, LoggedDataset]:
    """The log before its last `n_heldout` values of column `day`, and those last days."""
    days = np.unique(log[day])
    if len(days) <= n_heldout:
        raise DataError(f"column {day!r} holds {len(days)} days; the search needs some before the {n_heldout} held out")
    later = log[day] >= days[-n_heldout]
    return log.take(~later), log.take(later)


def _refit(
    judge: Evaluator, space: Space, vectors: Floats, order: Ints, violated: Floats, n_draws: int, seed: int
) -> tuple[dict[str, Interval], float]:
    """Choose among the best trials again on every draw of users: how far the choice moves is its uncertainty.

    Beside it the standard error of the chosen value."""
    some = [i for i in order[:_REFIT_TRIALS] if violated[i] == violated[order[0]]]
    values = draw_values(judge, vectors[some], panel_draws(judge.panel, n_draws, seed))
    if not np.isfinite(values).any():
        return {name: Interval(float("nan"), float("nan")) for name in space.names}, float("nan")
    winners = vectors[some][np.argmax(np.where(np.isnan(values), -np.inf, values), axis=1)]
    return {name: interval(winners[:, i]) for i, name in enumerate(space.names)}, float(np.nanstd(values[:, 0]))


def _check_scale(judge: Evaluator, space: Space, seed: int) -> None:
    """A group declared scale-free must not change the value when it is scaled."""
    middle = np.random.default_rng(seed).uniform(0.2, 0.8, (1, len(space)))
    base = space.decode(middle)
    for group in space.scale_free:
        scaled = base.copy()
        scaled[:, [space.names.index(name) for name in group]] *= 1.7
        before, after = judge(base).values[0], judge(scaled).values[0]
        if np.isfinite(before) and np.isfinite(after) and abs(before - after) > 1e-6:
            raise ConfigError(
                f"the scale of {', '.join(group)} changes the ranking ({before:.6f} becomes {after:.6f}); "
                "take it out of scale_free"
            )


def _fingerprint(log: LoggedDataset, formula: Formula, objective: Objective) -> str:
    names = {"user_id", *(SCORE + t for t in formula.tasks), *(label for m in objective.metrics for label in m.labels)}
    part = LoggedDataset({name: log[name] for name in sorted(names)}).fingerprint()
    return hashlib.sha256(json.dumps([part, len(log)]).encode()).hexdigest()
