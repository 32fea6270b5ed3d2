"""Calibration per task, and per scenario where it has the rows, fitted on held-out logs: sums of uncalibrated scores mislead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from core.arrays import AnyArray, Bools, Floats
from core.artefacts import Artefact, tensors
from core.errors import ArtefactError, ConfigError, DataError
from core.events import SCORE
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet

Method = Literal["isotonic", "platt", "temperature", "scale", "none"]
SCENARIO: Final = "scenario"  # the column of a log and the name in a request's context
METHODS: Final = ("isotonic", "platt", "temperature", "scale", "none")
MIN_ROWS: Final = 1_000  # a scenario with fewer observed rows shares the map of all
_FILE: Final = "calibration.safetensors"
_EDGE: Final = 1e-7  # probabilities are kept this far from 0 and 1 before a logit


@dataclass(frozen=True, slots=True)
class TaskCalibration:
    """One task's map from score to calibrated score, strictly increasing, so it never changes the order of one task.

    Args:
        method: `isotonic` interpolates between the knots `values` `[2, n]` (x above y);
            `platt` is sigmoid(a logit(p) + b), a > 0; `temperature` is sigmoid(logit(p) / t); `scale` is c p, for
            expected values such as seconds; `none` changes nothing.
        values: The knots, `[a, b]`, `[t]`, `[c]` or nothing.
    """

    method: str
    values: Floats

    def __call__(self, p: AnyArray) -> Floats:
        """Calibrated scores, same shape."""
        p = np.asarray(p, dtype=np.float64)
        if self.method == "isotonic":
            return np.asarray(np.interp(p, self.values[0], self.values[1]))
        if self.method == "platt":
            return np.asarray(expit(self.values[0] * _logit(p) + self.values[1]))
        if self.method == "temperature":
            return np.asarray(expit(_logit(p) / self.values[0]))
        return p * self.values[0] if self.method == "scale" else p


class Calibration:
    """Calibrations by task; tasks without one pass through.

    Args:
        tasks: The map of each task, for all scenarios that have none of their own.
        scenarios: By scenario, the tasks whose map differs there.

    >>> c = Calibration({"click": TaskCalibration("temperature", np.array([2.0]))})
    >>> c.apply(ScoreTable(("click", "like"), np.array([[0.9, 0.1]]))).values.round(3).tolist()
    [[0.75, 0.1]]
    """

    def __init__(
        self, tasks: Mapping[str, TaskCalibration], scenarios: Mapping[str, Mapping[str, TaskCalibration]] | None = None
    ) -> None:
        self.tasks = dict(tasks)
        self.scenarios = {str(scenario): dict(own) for scenario, own in (scenarios or {}).items()}

    def of(self, scenario: str | None) -> Mapping[str, TaskCalibration]:
        """The maps in one scenario; an unknown one has those of all."""
        own = self.scenarios.get(scenario) if scenario is not None else None
        return {**self.tasks, **own} if own else self.tasks

    def apply(self, scores: ScoreTable, only: Sequence[str] | None = None, *, scenario: str | None = None) -> ScoreTable:
        """The table of one request with calibrated columns; `only` leaves the other columns as they are."""
        maps = self.of(scenario)
        values = np.array(scores.values, dtype=np.float64)
        for column, task in enumerate(scores.tasks):
            if task in maps and (only is None or task in only):
                values[:, column] = maps[task](values[:, column])
        return ScoreTable(scores.tasks, values, scores.user_values)

    def apply_log(self, log: LoggedDataset) -> LoggedDataset:
        """The log with its `score_<task>` columns calibrated, each row by its `scenario` where scenarios have maps of their own.

        Raises:
            DataError: There are such scenarios and the log has no column `scenario`.
        """
        out = {SCORE + task: c(log[SCORE + task]) for task, c in self.tasks.items() if SCORE + task in log}
        if self.scenarios:
            scenario = log.require([SCENARIO])[SCENARIO].astype(str)
            for name, own in self.scenarios.items():
                rows = scenario == name
                for task, c in own.items():
                    if SCORE + task in log:
                        out.setdefault(SCORE + task, np.array(log[SCORE + task], dtype=np.float64))[rows] = c(
                            log[SCORE + task][rows]
                        )
        return log.with_columns(out)

    def to_arrays(self) -> tuple[dict[str, str], dict[str, AnyArray]]:
        """Method and values by `task` and `task@scenario`, for an artefact."""
        maps = dict(self.tasks)
        maps |= {f"{task}@{scenario}": c for scenario, own in self.scenarios.items() for task, c in own.items()}
        return {name: c.method for name, c in maps.items()}, {name: c.values for name, c in maps.items()}

    @classmethod
    def from_arrays(cls, methods: Mapping[str, str], arrays: Mapping[str, AnyArray]) -> Calibration:
        """The inverse of `to_arrays`."""
        tasks: dict[str, TaskCalibration] = {}
        scenarios: dict[str, dict[str, TaskCalibration]] = {}
        for name, method in methods.items():
            if method not in METHODS or name not in arrays:
                raise ArtefactError(f"calibration of {name!r}: method {method!r} is unknown or its values are missing")
            task, at, scenario = name.partition("@")
            (scenarios.setdefault(scenario, {}) if at else tasks)[task] = TaskCalibration(method, np.asarray(arrays[name]))
        return cls(tasks, scenarios)


def to_files(calibration: Calibration | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a calibrated strategy adds to its artefact's configuration and files; nothing without a calibration."""
    if calibration is None:
        return {}, {}
    about, arrays = calibration.to_arrays()
    return {"calibration": about}, {_FILE: tensors(arrays)}


def from_artefact(artefact: Artefact) -> Calibration | None:
    """Read what `to_files` wrote."""
    about = artefact.config.get("calibration")
    return None if about is None else Calibration.from_arrays(about, artefact.read_tensors(_FILE))


def fit(
    log: LoggedDataset,
    tasks: TaskSet,
    method: Method | Mapping[str, Method] = "isotonic",
    *,
    by_scenario: bool = False,
    min_rows: int = MIN_ROWS,
) -> Calibration:
    """Fit one calibration a task on a log the ranker was not trained on.

    Args:
        log: Columns `score_<task>` and the labels; rows whose label or score is NaN are left out.
        tasks: Only tasks with one score per item are calibrated.
        method: One for all, or by task (others: `isotonic`). A regression task takes `isotonic`, `scale` or `none`;
            where one method for all does not suit it, it takes `scale`.
        by_scenario: Fit again within each value of column `scenario` that has `min_rows` observed rows of a task and, if it is
            binary, at least 10 of either class; the others share the map of all.

    Raises:
        DataError: A task has no observed rows, or one class only; or there is no column `scenario`.
    """
    chosen: dict[str, TaskCalibration] = {}
    scenarios: dict[str, dict[str, TaskCalibration]] = {}
    scenario = log.require([SCENARIO])[SCENARIO].astype(str) if by_scenario else np.zeros(0, dtype=str)
    for name in tasks.scored:
        binary = tasks[name].kind == "binary"
        how = method.get(name, "isotonic") if isinstance(method, Mapping) else method
        if how not in METHODS:
            raise ConfigError(f"calibration method {how!r} is not one of {', '.join(METHODS)}")
        if not binary and how in ("platt", "temperature"):
            if isinstance(method, Mapping):
                raise ConfigError(f"task {name!r} is a regression; calibrate it by isotonic, scale or none, not {how}")
            how = "scale"
        chosen[name] = fit_task(log[SCORE + name], log[name], how, name=name, binary=binary)
        for value in np.unique(scenario):
            p, y = log[SCORE + name][scenario == value], np.asarray(log[name][scenario == value], dtype=np.float64)
            seen = np.isfinite(y)
            if seen.sum() < min_rows or (binary and min((y[seen] > 0).sum(), (y[seen] == 0).sum()) < 10):
                continue
            scenarios.setdefault(str(value), {})[name] = fit_task(p, y, how, name=f"{name} in {value}", binary=binary)
    return Calibration(chosen, scenarios)


def fit_task(score: AnyArray, label: AnyArray, method: Method, *, name: str = "task", binary: bool = True) -> TaskCalibration:
    """Fit one map on scores and labels `[n]`."""
    if method == "none":
        return TaskCalibration("none", np.zeros(0))
    p, y = np.asarray(score, dtype=np.float64), np.asarray(label, dtype=np.float64)
    seen: Bools = np.isfinite(p) & np.isfinite(y)
    p, y = p[seen], y[seen]
    if len(p) == 0:
        raise DataError(f"calibration of {name!r}: no row has both a score and a label; give a log with observed labels")
    if binary and (y.min() == y.max() or set(np.unique(y)) - {0.0, 1.0}):
        raise DataError(f"calibration of {name!r}: labels must hold both 0 and 1, they hold {np.unique(y)[:3].tolist()}")
    if method == "isotonic":
        return TaskCalibration("isotonic", _isotonic(p, y, binary))
    if method == "scale":
        if p.sum() <= 0 or y.sum() <= 0:
            raise DataError(f"calibration of {name!r} by scale needs positive scores and labels on average")
        return TaskCalibration("scale", np.array([y.sum() / p.sum()]))
    return TaskCalibration(method, _platt(_logit(p), y) if method == "platt" else _temperature(_logit(p), y))


def _isotonic(p: Floats, y: Floats, binary: bool) -> Floats:
    """Pool adjacent violators, one knot a block (mean score, mean label): flat blocks would tie what the ranker told apart."""
    values, index, count = np.unique(p, return_inverse=True, return_counts=True)
    mean = np.bincount(index, weights=y) / count
    blocks = isotonic_regression(mean, weights=count).blocks
    starts = blocks[:-1]
    weight = np.add.reduceat(count, starts).astype(float)
    x = np.add.reduceat(values * count, starts) / weight
    level = np.add.reduceat(mean * count, starts) / weight
    if not binary:
        low, high = np.array([min(0.0, values[0]), level[0]]), np.array([x[-1] * 2 + 1.0, level[-1] + x[-1] + 1.0])
    else:  # half a positive and half a negative at the ends, so that no level is exactly 0 or 1
        level = np.clip(level, 0.5 / (weight[0] + 1), 1 - 0.5 / (weight[-1] + 1))
        low, high = np.array([0.0, 0.0]), np.array([1.0, 1.0])
    inner = np.stack([x, level])
    inner = inner[:, (inner[0] > low[0]) & (inner[0] < high[0])]
    return np.concatenate([low[:, None], inner, high[:, None]], axis=1)


def _platt(z: Floats, y: Floats, steps: int = 50) -> Floats:
    """Newton's method on the log loss of sigmoid(a z + b); a is kept positive so the order stays."""
    theta = np.array([1.0, 0.0])
    design = np.stack([z, np.ones_like(z)])  # [2, n]
    for _ in range(steps):
        q = expit(theta @ design)
        gradient = design @ (q - y)
        hessian = (design * (q * (1 - q))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta = theta - step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    return np.array([max(theta[0], 1e-6), theta[1]])


def _temperature(z: Floats, y: Floats, steps: int = 100) -> Floats:
    """Newton's method on the log loss of sigmoid(z exp(-s)), t = exp(s) > 0."""
    s = 0.0
    for _ in range(steps):
        scaled = z * np.exp(-s)
        q = expit(scaled)
        slope = float(-(scaled * (q - y)).sum())
        curvature = float((scaled**2 * q * (1 - q)).sum() + (scaled * (q - y)).sum())
        step = slope / curvature if curvature > 0 else np.sign(slope) * 0.5
        s -= float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-10:
            break
    return np.array([np.exp(np.clip(s, -10.0, 10.0))])


def _logit(p: Floats) -> Floats:
    return np.asarray(logit(np.clip(p, _EDGE, 1 - _EDGE)))
