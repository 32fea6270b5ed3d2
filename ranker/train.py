"""The one training loop: batches in, the best epoch on later days out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from core.artefacts import Artefact, ArtefactStore
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet
from ranker import balance, models
from ranker.batches import AlternatingBatches, Batch, BatchSource, MemoryBatches, StackedBatches, dropping, pack
from ranker.checkpoint import Checkpoints
from ranker.config import TrainConfig
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.losses import TaskLosses
from ranker.metrics import evaluate, mean_auc
from ranker.models.base import MultiTaskModel
from ranker.optimisers import Average, Schedule, make_optimisers
from ranker.predictor import Predictor
from ranker.ranking import RankingLoss
from ranker.targets import Scale, observed, require_both_classes
from ranker.team import ALONE, Team

__all__ = ["TrainConfig", "Trained", "fit", "fit_scales", "labelled", "train"]


Prepare = Callable[[MultiTaskModel], None]
Watch = Callable[[Mapping[str, Any]], None]  # given each row of the history, with the metrics of all tasks beside


@dataclass
class Trained:
    """A trained ranker: everything an artefact needs, and how training went."""

    model_name: str
    options: Mapping[str, Any]
    encoder: Encoder
    model: MultiTaskModel
    scales: Mapping[str, Scale]
    config: TrainConfig
    seed: int
    history: list[dict[str, Any]]
    best_epoch: float
    metrics: dict[str, dict[str, float]]
    fingerprint: str

    @property
    def predictor(self) -> Predictor:
        """The ranker as serving would load it."""
        return Predictor(self.model_name, self.options, self.encoder, self.model, self.scales)

    def publish(self, store: ArtefactStore, name: str, *, parents: Mapping[str, str] | None = None) -> Artefact:
        """Write a new version of artefact `ranker/<name>`."""
        return self.predictor.publish(
            store,
            name,
            seed=self.seed,
            data_fingerprint=self.fingerprint,
            parents=parents,
            train=asdict(self.config),
            metrics=_json_metrics(self.metrics),
        )


def train(
    spec: FeatureSpec,
    model: str = "mmoe",
    *,
    train: LoggedDataset,
    valid: LoggedDataset,
    config: TrainConfig | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    start: Trained | None = None,
    encoder: Encoder | None = None,
    prepare: Prepare | None = None,
    watch: Watch | None = None,
    progress: bool = True,
) -> Trained:
    """Train on earlier rows, choose the epoch on later ones.

    Args:
        spec: Features and tasks.
        model: A name of `ranker.models.MODELS`; `options` go to the architecture.
        train, valid: Rows to learn from and rows to choose the epoch by; the latter must not be the ones a result is judged on.
        seed: Decides initial weights, order and dropout.
        checkpoints: A folder; a killed run that is started again with the same arguments goes on there and ends the same.
        start: An encoder and weights to start from, as `ranker.incremental.warm` makes them.
        encoder: A fitted encoder to use instead of fitting one on `train`.
        prepare: Changes the new network before the first step (pre-trained or frozen weights).
        watch: Called after each validation with its row of the history and its metrics, such as `ranker.scalars.Scalars`.

    Raises:
        DataError: A log is empty, lacks a column, holds NaN where that is an error, or has one class of a task only.
        ConfigError: The model, an option or a setting is unknown.
    """
    config = config or TrainConfig()
    _factors(spec.tasks, config)
    for part, log in (("train", train), ("valid", valid)):
        if len(log) == 0:
            raise DataError(f"the {part} log is empty; it needs at least one impression")
        needed = [task for task in spec.tasks if part == "train" or task.name not in config.auxiliary]
        require_both_classes(log, needed, part)
    encoder = start.encoder if start else encoder or Encoder.fit(spec, train)
    scales = dict(start.scales) if start else fit_scales(spec.tasks, train, config)
    rows = pack(encoder, train, scales)
    drop = dropping(encoder.layout)
    source: BatchSource
    if config.alternate:
        check_alternation(config)
        source = AlternatingBatches.by(train[config.alternate], rows, drop)
    else:
        source = MemoryBatches(rows, drop)
    if config.ranking:
        group = RankingLoss(config.ranking, spec.tasks.scored, spec.tasks.names).group
        rows.group = torch.from_numpy(np.unique(train[group], return_inverse=True)[1])
    return fit(
        source,
        encoder,
        pack(encoder, labelled(valid, spec.tasks, config), scales),
        valid,
        model=model,
        scales=scales,
        config=config,
        options=options,
        seed=seed,
        checkpoints=checkpoints,
        weights=start.model.state_dict() if start else None,
        prepare=prepare,
        watch=watch,
        fingerprint=train.fingerprint() if checkpoints or len(train) < 1_000_000 else "",
        progress=progress,
    )


def fit(
    source: BatchSource,
    encoder: Encoder,
    valid_rows: Batch,
    valid: LoggedDataset,
    *,
    model: str,
    scales: Mapping[str, Scale],
    config: TrainConfig,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    weights: Mapping[str, Any] | None = None,
    prepare: Prepare | None = None,
    watch: Watch | None = None,
    fingerprint: str = "",
    team: Team = ALONE,
    progress: bool = True,
) -> Trained:
    """The loop itself, over any source of batches; `train`, the streaming form and every worker of `ranker.distributed` end here.

    Args:
        team: The workers that share each batch; `source` then holds this worker's rows, and a batch its share of `batch_size`.
    """
    options = dict(options or {})
    factors = _factors(encoder.spec.tasks, config)
    valid = labelled(valid, encoder.spec.tasks, config)
    with _seeded(seed):
        network = models.make(model, encoder.layout, encoder.spec.tasks, options)
    if weights is not None:
        network.load_state_dict(dict(weights))
    if prepare is not None:
        prepare(network)
    if network.n_members > 1:
        source = StackedBatches(source, network.n_members)
    balancer = balance.make(config.balance, encoder.spec.tasks, network, config.balance_options, team)
    optimisers = make_optimisers(network, balancer.parameters(), config)
    average = Average(network, config.average, config.average_power)
    steps = source.steps(config.batch_size)
    schedule = Schedule(config.schedule, optimisers, config.epochs * steps)
    losses = TaskLosses(encoder.spec.tasks, config.regression, team.sum)
    ranking = (
        RankingLoss(config.ranking, encoder.spec.tasks.scored, encoder.spec.tasks.names, team.sum) if config.ranking else None
    )
    predictor = Predictor(model, options, encoder, network, scales)
    run = {
        "model": model,
        "options": options,
        "config": asdict(config),
        "seed": seed,
        "spec": encoder.spec.to_json(),
        "data": fingerprint,
    }
    keeper = Checkpoints(checkpoints, run) if checkpoints else None
    state: dict[str, Any] = (keeper.load() if keeper else None) or {"epoch": 0, "history": [], "best": None, "waited": 0}
    if state["epoch"]:
        network.load_state_dict(state["network"])
        balancer.load_state_dict(state["balancer"])
        average.load_state_dict(state["average"])
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    parameters = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    judge = partial(_judge, state, predictor, valid_rows, valid, config, team, watch if team.rank == 0 else None)
    low = config.precision == "bfloat16" or (config.precision == "auto" and native_bfloat16())
    for epoch in range(state["epoch"], config.epochs):
        if state["waited"] >= config.patience:
            break
        network.train()
        balancer.start_epoch(epoch)
        total, met = torch.zeros(len(encoder.spec.tasks)), torch.zeros(len(encoder.spec.tasks))
        stops = {round(steps * (i + 1) / config.evaluations) for i in range(config.evaluations)}
        what = f"{model} epoch {epoch + 1}/{config.epochs}"
        bar = tqdm(total=steps, desc=what, disable=not progress or team.rank > 0, unit="batch", leave=False)
        with _seeded(seed * 1_000_003 + epoch + 1 + 7_919 * team.rank):
            for step, batch in enumerate(source.epoch(seed * 1_000_003 + epoch, config.batch_size), 1):
                with torch.autocast("cpu", torch.bfloat16, enabled=low):
                    outputs = network.run(batch).float()
                found = losses(outputs, batch.values, batch.weights)
                for optimiser in optimisers:
                    optimiser.zero_grad(set_to_none=True)
                own = (outputs.aux, network.extra_loss(outputs, batch.values, batch.weights))
                present = [term / team.size for term in own if term is not None]
                if ranking is not None and batch.group is not None:
                    present.append(ranking(outputs.logits, batch.values, batch.weights, batch.group))
                balancer.backward(found * factors, sum(present[1:], present[0]) if present else None)
                team.sum_gradients(parameters)
                schedule.at(epoch * steps + step - 1)
                for optimiser in optimisers:
                    optimiser.step()
                average.update()
                total += found.detach()
                met += (batch.weights.sum(0) > 0).float()
                bar.update()
                if step in stops and step < steps:
                    with average.in_place():
                        judge(epoch + step / steps, {})
        bar.close()
        means = team.sum(total) * team.size / team.sum(met).clamp(min=1)  # over the batches that hold the task
        mean = dict(zip(encoder.spec.tasks.names, means.tolist(), strict=True))
        if not np.isfinite(list(mean.values())).all():
            raise DataError(f"the loss became {mean}; lower learning_rate = {config.learning_rate} or check the features' scale")
        with average.in_place():
            judge(epoch + 1.0, {"loss": mean, "weights": balancer.weights()})
        state["epoch"] = epoch + 1
        if keeper and team.rank == 0:
            saved = {
                "network": network.state_dict(),
                "balancer": balancer.state_dict(),
                "average": average.state_dict(),
                "optimisers": [o.state_dict() for o in optimisers],
            }
            keeper.save(state | saved)
    best = state["best"]
    network.load_state_dict(best["network"])
    network.eval()
    return Trained(
        model, options, encoder, network, scales, config, seed, state["history"], best["epoch"], best["metrics"], fingerprint
    )


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AVX512_BF16 or AMX); elsewhere it is emulated and slower."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _judge(
    state: dict[str, Any],
    predictor: Predictor,
    rows: Batch,
    valid: LoggedDataset,
    config: TrainConfig,
    team: Team,
    watch: Watch | None,
    epoch: float,
    more: dict[str, Any],
) -> None:
    """Validate, remember the best weights, count how long nothing improved (in whole epochs)."""
    model = predictor.model
    model.eval()
    outputs, predictions = predictor.run(rows)
    with torch.inference_mode():
        loss = TaskLosses(predictor.tasks, config.regression)(outputs, rows.values, rows.weights)
    metrics = evaluate(predictions, valid, predictor.tasks, group=predictor.spec.user)
    model.train()
    main = [name for name in metrics if name not in config.auxiliary]
    watched = {name: row for name, row in metrics.items() if name in (config.monitor_tasks or main)}
    valid_loss = dict(zip(predictor.tasks.names, loss.tolist(), strict=True))
    score = mean_auc(watched) if config.monitor == "auc" else float("nan")
    if np.isnan(score):
        score = -sum(valid_loss[name] for name in watched)
    score = team.first(score)
    state["history"].append({"epoch": epoch, "score": score, "valid_loss": valid_loss, **more})
    if watch is not None:
        watch({**state["history"][-1], "metrics": metrics})
    best = state["best"]
    if best is None or score > best["score"]:
        network = {name: value.detach().clone() for name, value in model.state_dict().items()}
        state["best"] = {"score": score, "epoch": epoch, "metrics": metrics, "network": network}
    state["waited"] = int(np.floor(epoch - state["best"]["epoch"] + 1e-9))


def check_alternation(config: TrainConfig) -> None:
    """Raise ConfigError where tasks that take turns meet a setting that needs all of them in each batch."""
    if config.alternate and config.balance in balance.TOGETHER:
        raise ConfigError(
            f"balance {config.balance!r} needs every task in each batch, which alternate = {config.alternate!r} does not give; "
            "mix the rows, or choose fixed, decay or a gradient aggregator"
        )
    if config.alternate and config.ranking:
        raise ConfigError("training settings alternate and ranking do not go together; mix the rows, or leave ranking out")


def _factors(tasks: TaskSet, config: TrainConfig) -> torch.Tensor:
    """1 for a main task, an auxiliary one's own factor, `(K,)`."""
    for name in config.auxiliary:
        if name not in tasks.names:
            raise ConfigError(f"training setting auxiliary names {name!r}; tasks are {', '.join(tasks.names)}")
    if set(config.auxiliary) >= set(tasks.names):
        raise ConfigError("training setting auxiliary names every task; at least one is main")
    return torch.tensor([float(config.auxiliary.get(name, 1.0)) for name in tasks.names])


def labelled(valid: LoggedDataset, tasks: TaskSet, config: TrainConfig) -> LoggedDataset:
    """The validation rows with labels of auxiliary tasks not observed where there are none."""
    absent = [n for name in config.auxiliary for n in (name, tasks[name].sample_space) if n is not None and n not in valid]
    return valid.with_columns({name: np.full(len(valid), np.nan) for name in absent}) if absent else valid


def fit_scales(tasks: TaskSet, log: LoggedDataset, config: TrainConfig) -> dict[str, Scale]:
    """How each regression task's label is scaled, from the training labels."""
    found = {}
    for name in config.scales:
        if name not in tasks.names or tasks[name].kind != "regression":
            raise ConfigError(f"training setting scales names {name!r}, which is no regression task")
    for task in tasks:
        if task.kind == "regression":
            label, mask = observed(log.columns, task)
            found[task.name] = Scale.fit(config.scales.get(task.name, "standard"), label[mask > 0])
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generator seeded inside, and as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % (2**63))
        yield


def _json_metrics(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {task: {k: None if np.isnan(v) else v for k, v in row.items()} for task, row in metrics.items()}
