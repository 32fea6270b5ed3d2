"""The one trainer of learned fusions: rounds, a later day that says when to stop, and a run that goes on after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load as load_safetensors
from tqdm import tqdm

from core.arrays import AnyArray
from core.artefacts import tensors
from core.checkpoint import Checkpoint
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.calibrate import Calibration
from fusion.fused import FusionStrategy
from fusion.learned.base import LearnedStrategy
from fusion.learned.inputs import Inputs
from fusion.learned.judge import judged
from fusion.learned.lambdamart import LambdaMartLearner
from fusion.learned.learner import Learner
from fusion.learned.monotone import MonotoneLearner
from fusion.learned.rows import Rows, distilled, labelled
from fusion.search.objective import Objective, mtf_gauc

LEARNERS: Final[Mapping[str, Callable[[Rows, Inputs, Mapping[str, Any], int], Learner]]] = {
    "lambdamart": LambdaMartLearner,
    "monotone": MonotoneLearner,
}


@dataclass(frozen=True)
class Learned:
    """What `learn` found.

    Attributes:
        strategy: The state of the best round, ready to serve or publish.
        history: The objective on the validation rows after each round; empty without them.
        best_round: How many rounds the strategy has learned for.
    """

    strategy: LearnedStrategy
    kind: str
    history: tuple[float, ...]
    best_round: int
    seed: int
    options: Mapping[str, Any]
    data_fingerprint: str

    def summary(self) -> dict[str, Any]:
        """As JSON values, without the strategy."""
        return {
            "kind": self.kind,
            "options": dict(self.options),
            "seed": self.seed,
            "best_round": self.best_round,
            "history": list(self.history),
            "data_fingerprint": self.data_fingerprint,
        }


def learn(
    kind: str,
    log: LoggedDataset,
    valid: LoggedDataset | None,
    *,
    tasks: TaskSet,
    gains: Mapping[str, float],
    teachers: Sequence[FusionStrategy] = (),
    context: Sequence[str] = (),
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
    max_rounds: int = 40,
    patience: int = 6,
    by: str = "user_id",
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Learned:
    """Learn a fusion of the tasks' logged scores that is monotone in each of them.

    Args:
        kind: One of LEARNERS.
        log, valid: Impressions with out-of-sample `score_<task>`, labels, `user_id` and the context columns. The rounds end when
            the MTF-GAUC on `valid`, a later day, has not risen for `patience` rounds; without it all `max_rounds` are learned.
        gains: What one behaviour is worth: the graded label, and the objective on `valid`.
        teachers: With them the label is their mean final score (distillation); `gains` then only decide when to stop.
        context: Numeric columns that may bend the transforms; serving needs them in the request's context.
        calibration: Applied first, here and when serving. Teachers get raw scores and calibrate themselves.
        by: Items compete within one value of this column: a user, or a request.
        folder: Where each round's state is kept, so that a killed run goes on.

    Raises:
        ConfigError, DataError: Names, options and data do not fit each other; the folder holds another run.
    """
    if kind not in LEARNERS:
        raise ConfigError(f"learned fusion {kind!r} is not one of {', '.join(LEARNERS)}")
    if max_rounds < 1 or patience < 1:
        raise ConfigError(f"max_rounds {max_rounds} and patience {patience} must be at least 1")
    inputs, options = Inputs.of(tasks, context), dict(options or {})
    rows = distilled(log, inputs, teachers, by, calibration) if teachers else labelled(log, inputs, gains, by, calibration)
    learner = LEARNERS[kind](rows, inputs, options, seed)
    objective = Objective([mtf_gauc(gains)])
    fingerprint = _fingerprint(rows, valid)
    settings = {"kind": kind, "options": options, "seed": seed, "patience": patience, "gains": dict(gains), "data": fingerprint}
    kept = _Kept(folder, {**settings, "inputs": inputs.to_json()})
    history, best = kept.load()
    strategy: LearnedStrategy | None = None
    if history:
        learner.restore(best)
        strategy = learner.strategy(calibration)
        learner.restore(kept.now)
    with tqdm(total=max_rounds, initial=len(history), desc=f"learn {kind}", unit="round", disable=not progress) as bar:
        while len(history) < max_rounds and len(history) - _best_round(history) < patience:
            learner.round(len(history))
            candidate = learner.strategy(calibration)
            history.append(judged(candidate, valid, objective).value if valid is not None else float(len(history)))
            if _best_round(history) == len(history):
                strategy, best = candidate, learner.state()
            kept.save(history, best, learner.state())
            bar.update()
            bar.set_postfix_str(f"MTF-GAUC {history[-1]:.4f}" if valid is not None else "")
    if strategy is None:
        raise DataError("no round has a value on the validation rows; check their labels and scores")
    shown = tuple(history) if valid is not None else ()
    return Learned(strategy, kind, shown, _best_round(history), seed, options, fingerprint)


class _Kept:
    """The run's history, best and newest state in one file, replaced whole after each round."""

    def __init__(self, folder: str | Path | None, run: Mapping[str, Any]) -> None:
        self._file = Checkpoint(Path(folder) / "learning.state", run) if folder is not None else None
        self.now: dict[str, AnyArray] = {}

    def load(self) -> tuple[list[float], dict[str, AnyArray]]:
        """History and best state; empty at the start; see `core.checkpoint.Checkpoint.load` for what is refused."""
        content = self._file.load() if self._file is not None else None
        if content is None:
            return [], {}
        kept = load_safetensors(content)
        self.now = {name.removeprefix("now."): value for name, value in kept.items() if name.startswith("now.")}
        best = {name.removeprefix("best."): value for name, value in kept.items() if name.startswith("best.")}
        return kept["history"].tolist(), best

    def save(self, history: Sequence[float], best: Mapping[str, AnyArray], now: Mapping[str, AnyArray]) -> None:
        """Replace the file."""
        if self._file is not None:
            states = {f"{part}.{name}": value for part, state in (("best", best), ("now", now)) for name, value in state.items()}
            self._file.save(tensors({"history": np.array(history), **states}))


def _best_round(history: Sequence[float]) -> int:
    """The first round with the highest value, counted from 1; 0 when no round has a value."""
    values = np.array([-np.inf if np.isnan(value) else value for value in history])
    return int(np.argmax(values)) + 1 if np.isfinite(values).any() else 0


def _fingerprint(rows: Rows, valid: LoggedDataset | None) -> str:
    """Of everything that is learned from."""
    digest = hashlib.sha256(valid.fingerprint().encode() if valid is not None else b"")
    for array in rows:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
