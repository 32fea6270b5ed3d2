"""A search on many Ray Tune workers: the driver asks and tells, they judge slices; the result is the serial one, to the bit."""

from __future__ import annotations

import os
import tempfile
from typing import Any, cast

import numpy as np
import ray
from ray import tune
from ray.tune.search import Searcher
from tqdm import tqdm

from core.arrays import Floats
from core.errors import ConfigError, ScorefusionError
from fusion.search.evaluator import Evaluation, Evaluator
from fusion.search.study import Driver, Study


def on_workers(n_workers: int) -> Driver:
    """A driver for `fusion.search.search(drive=...)` that judges on so many Ray workers, each with one thread.

    Every batch is cut into one slice a worker, and told when all of it is judged, so that the searcher sees what it would see
    in one process. The trials are on the driver's disk: a killed search replays them, whatever its workers were.
    A large `batch` pays: a trial of Ray Tune costs about a tenth of a second.

    Raises:
        ConfigError: `n_workers` is below 1. ScorefusionError: A worker failed.
    """
    if n_workers < 1:
        raise ConfigError(f"{n_workers} workers; give at least 1")

    def drive(study: Study, judge: Evaluator, progress: bool) -> None:
        ours = not ray.is_initialized()
        if ours:
            ray.init(num_cpus=n_workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        threads, judge.n_threads = judge.n_threads, 1  # on the copies that travel
        with (
            tempfile.TemporaryDirectory(prefix="scorefusion-tune-") as folder,
            tqdm(total=study.n_trials, desc=f"search by {study.searcher}", unit="trial", disable=not progress) as bar,
        ):
            slices = _Slices(study, n_workers, bar)
            resources = tune.with_resources(tune.with_parameters(_judge_slice, judge=judge), {"cpu": 1})
            tuner = tune.Tuner(
                resources,
                tune_config=tune.TuneConfig(
                    search_alg=slices,
                    num_samples=study.n_trials,
                    max_concurrent_trials=n_workers,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: str(trial.trial_id),
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            )
            try:
                errors = tuner.fit().errors
            finally:
                judge.n_threads = threads
                if ours:
                    ray.shutdown()
        if slices.failed or errors:
            raise ScorefusionError(f"a search worker failed: {next(iter(errors), 'no reason given')}")

    return drive


_FINISHED = cast(dict[str, Any], Searcher.FINISHED)  # a word that Ray declares to be a configuration


class _Slices(Searcher):
    """A study as Ray Tune's search algorithm: a trial is a slice of the batch that the study asked for."""

    def __init__(self, study: Study, n_workers: int, bar: Any) -> None:
        super().__init__(metric="n_judged", mode="max")
        self.failed = False
        self._study, self._n_workers, self._bar = study, n_workers, bar
        self._waiting: list[tuple[int, Floats]] = []
        self._out: dict[str, int] = {}
        self._answers: dict[int, Evaluation] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next slice; None while the batch is out, FINISHED when the study is over."""
        if self.failed:
            return _FINISHED
        if not self._waiting and not self._out:
            vectors = self._study.ask()
            self._bar.update(self._study.n_done - self._bar.n)
            if len(vectors) == 0:
                return _FINISHED
            parts = np.array_split(vectors, min(self._n_workers, len(vectors)))
            self._waiting = list(enumerate(parts))
        if not self._waiting:
            return None
        number, part = self._waiting.pop(0)
        self._out[trial_id] = number
        return {"vectors": part.tolist()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Collect a slice; tell the study when its batch is whole."""
        number = self._out.pop(trial_id)
        if error or result is None or "values" not in result:
            self.failed = True
            return
        n_nonfinite = np.asarray(result["n_nonfinite"], dtype=np.int64)
        self._answers[number] = Evaluation(np.asarray(result["values"]), np.asarray(result["terms"]), n_nonfinite)
        if not self._waiting and not self._out:
            ordered = [self._answers[i] for i in sorted(self._answers)]
            self._study.tell(Evaluation(*(np.concatenate(part) for part in zip(*ordered, strict=True))))
            self._answers = {}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A slice is judged in one step."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal on disk is the memory of a search."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to read; see `save`."""


def _judge_slice(config: dict[str, Any], judge: Evaluator) -> None:
    found = judge(np.asarray(config["vectors"], dtype=np.float64))
    tune.report({
        "n_judged": len(found.values),
        "values": found.values.tolist(),
        "terms": found.terms.tolist(),
        "n_nonfinite": found.n_nonfinite.tolist(),
    })  # fmt: skip
