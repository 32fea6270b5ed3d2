"""Transfer of a learned representation to a new task, four ways: RS, RA, RT, FT (Ni et al., KDD 2018, section 5.5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.carry import carry_same, carry_tables
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.models.base import MultiTaskModel
from ranker.train import TrainConfig, Trained, train

MODES: Mapping[str, str] = {
    "rs": "retrain alone: the new task from nothing",
    "ra": "retrain with all: old and new tasks together from nothing",
    "rt": "the representation frozen, a shallow head on it",
    "ft": "the representation as a start, all of it trained on",
}


@dataclass(frozen=True)
class Transferred:
    """A ranker for the new task, how it got there, and how long that took."""

    mode: str
    trained: Trained
    seconds: float
    n_trained: int

    @property
    def curve(self) -> list[tuple[float, float]]:
        """(share of the seconds, validation score) after each validation."""
        history = self.trained.history
        last = history[-1]["epoch"] if history else 1.0
        return [(self.seconds * row["epoch"] / last, row["score"]) for row in history]


def transfer(
    trained: Trained,
    task: TaskSpec,
    mode: str,
    *,
    train_log: LoggedDataset,
    valid_log: LoggedDataset,
    config: TrainConfig | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    checkpoints: str | Path | None = None,
    progress: bool = True,
) -> Transferred:
    """Learn `task` by one of `MODES`.

    Args:
        trained: The ranker whose representation is carried over; `rs` and `ra` take its architecture and features only.
        train_log, valid_log: Rows with the new task's label; `ra` needs the old tasks' too.
        clock: Seconds.

    Raises:
        ConfigError: The mode is unknown, the task is not new, or nothing of the shared layers fits the new network.
    """
    if mode not in MODES:
        raise ConfigError(f"transfer mode {mode!r} is not one of {', '.join(MODES)}")
    old = trained.encoder.spec
    if task.name in old.tasks.names:
        raise ConfigError(f"task {task.name!r} is one the ranker was trained for; transfer is to a new task")
    tasks = TaskSet([*old.tasks, task]) if mode == "ra" else TaskSet([task])
    spec = _with_tasks(old, tasks)
    prepare: Callable[[MultiTaskModel], None] | None = None
    encoder: Encoder | None = None
    if mode in ("rt", "ft"):
        encoder = Encoder(spec, trained.encoder.vocabularies, trained.encoder.numbers)

        def prepare(model: MultiTaskModel) -> None:
            assert encoder is not None
            carry_tables(trained.model, trained.encoder, model, encoder)
            carried = carry_same(trained.model, model)
            shared = [id(p) for layer in model.shared_layers() for p in layer.parameters()]
            names = [name for name, p in model.named_parameters() if id(p) in shared]
            if not set(names) <= set(carried):
                raise ConfigError(
                    f"{trained.model_name}: its shared layers depend on the number of tasks, so they cannot be carried"
                )
            if mode == "rt":
                frozen = set(carried) & set(names)
                for name, parameter in model.named_parameters():
                    parameter.requires_grad_(name not in frozen and not name.startswith("inputs."))

    start = clock()
    made = train(
        spec,
        trained.model_name,
        train=train_log,
        valid=valid_log,
        config=_settings(config or trained.config, tasks),
        options=_for_tasks(trained.options, tasks),
        seed=seed,
        encoder=encoder,
        prepare=prepare,
        checkpoints=checkpoints,
        progress=progress,
    )
    seconds = clock() - start
    return Transferred(mode, made, seconds, sum(p.numel() for p in made.model.parameters() if p.requires_grad))


def _with_tasks(spec: FeatureSpec, tasks: TaskSet) -> FeatureSpec:
    return FeatureSpec(
        spec.features, tasks, user=spec.user, item=spec.item, time=spec.time, scenario=spec.scenario, weight=spec.weight
    )


def _settings(config: TrainConfig, tasks: TaskSet) -> TrainConfig:
    """Settings without what they say about tasks that are gone."""
    auxiliary = {task: factor for task, factor in config.auxiliary.items() if task in tasks.names}
    scales = {task: scale for task, scale in config.scales.items() if task in tasks.names}
    return replace(config, auxiliary=auxiliary, scales=scales)


def _for_tasks(options: Mapping[str, Any], tasks: TaskSet) -> dict[str, Any]:
    """Options without what they say about tasks that are gone."""
    kept = dict(options)
    if "reads" in kept:
        kept["reads"] = {task: features for task, features in kept["reads"].items() if task in tasks.names}
    if "ranked" in kept:
        kept["ranked"] = [task for task in kept["ranked"] if task in tasks.names]
    return kept
