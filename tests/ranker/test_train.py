"""The loop learns what there is to learn, resumes to the same weights, and refuses what cannot be trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ranker.train as loop
from core.arrays import auc
from core.artefacts import ArtefactStore
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec
from ranker.optimisers import Average, Schedule
from ranker.predictor import Predictor
from ranker.train import Trained, train

TASKS = TaskSet(
    [TaskSpec("click"), TaskSpec("like", sample_space="click"), TaskSpec("watch_s", "regression", unit_of_measure="s")]
)
SPEC = FeatureSpec([Feature("user_id", side="user"), Feature("item_id"), Feature("price", "dense")], TASKS)
QUICK = TrainConfig(epochs=3, batch_size=256, learning_rate=0.01)


def world(n: int = 4000, seed: int = 0) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    item, user, price = rng.integers(0, 20, n), rng.integers(0, 30, n), rng.normal(0, 1, n)
    logit = (item - 10) / 4 + price
    click = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    like = np.where(click > 0, (rng.random(n) < 0.2 + 0.02 * item).astype(float), np.nan)
    watch = np.maximum(0, 20 + 5 * price + rng.normal(0, 1, n))
    columns = {"user_id": user, "item_id": item, "price": price, "click": click, "like": like, "watch_s": watch}
    return LoggedDataset({**columns, "time_ms": np.arange(n)})


TRAIN, VALID = world().split_time(3000)


def run(**more: object) -> Trained:
    settings: dict[str, object] = {"train": TRAIN, "valid": VALID, "config": QUICK, "progress": False, **more}
    return train(SPEC, "mmoe", **settings)  # type: ignore[arg-type]  # keywords that differ by test


def test_it_finds_the_truth() -> None:
    metrics = run(config=TrainConfig(epochs=20, batch_size=128, learning_rate=0.01, patience=5)).metrics
    truth = auc(VALID["click"] > 0, (VALID["item_id"] - 10) / 4 + VALID["price"])
    assert metrics["click"]["auc"] > truth - 0.02
    assert metrics["watch_s"]["r2"] > 0.9
    assert 0.9 < metrics["click"]["calibration"] < 1.1


def test_the_same_seed_gives_the_same_weights() -> None:
    a, b, c = run(seed=1), run(seed=1), run(seed=2)
    assert all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.model.parameters(), c.model.parameters(), strict=True))


@pytest.mark.parametrize(("average", "schedule"), [(0.0, "constant"), (0.99, "constant"), (0.0, "cosine")])
def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: float, schedule: str
) -> None:
    config = TrainConfig(epochs=3, batch_size=256, learning_rate=0.01, average=average, schedule=schedule)
    whole = run(config=config, options={"dropout": 0.2})
    judged = loop._judge

    def killed(state: dict[str, object], *rest: object) -> None:
        if state["epoch"] == 2:
            raise KeyboardInterrupt
        judged(state, *rest)  # type: ignore[arg-type]  # what the loop passes

    monkeypatch.setattr(loop, "_judge", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config=config, options={"dropout": 0.2}, checkpoints=tmp_path)
    monkeypatch.setattr(loop, "_judge", judged)
    resumed = run(config=config, options={"dropout": 0.2}, checkpoints=tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    assert whole.history == resumed.history


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(checkpoints=tmp_path, config=TrainConfig(epochs=1))
    with pytest.raises(ConfigError, match="of a run with other data, settings or seed"):
        run(checkpoints=tmp_path, config=TrainConfig(epochs=1), seed=5)


def test_early_stopping_keeps_the_best_epoch() -> None:
    trained = run(config=TrainConfig(epochs=30, batch_size=64, learning_rate=0.05, patience=2, evaluations=2))
    scores = [row["score"] for row in trained.history]
    assert trained.history[int(np.argmax(scores))]["epoch"] == trained.best_epoch
    assert trained.history[-1]["epoch"] <= trained.best_epoch + 2
    assert max(scores) == pytest.approx(np.mean([trained.metrics[t]["auc"] for t in ("click", "like")]))


def test_monitored_tasks_decide() -> None:
    trained = run(config=TrainConfig(epochs=2, monitor_tasks=("click",)))
    assert max(row["score"] for row in trained.history) == pytest.approx(trained.metrics["click"]["auc"])


def test_an_artefact_scores_as_the_trained_model(tmp_path: Path) -> None:
    trained = run()
    artefact = trained.publish(ArtefactStore(tmp_path), "demo", parents={"log": "log/demo/v1"})
    again = Predictor.load(artefact)
    assert np.array_equal(again.score_columns(VALID.columns).values, trained.predictor.score_columns(VALID.columns).values)
    assert artefact.manifest["data_fingerprint"] == TRAIN.fingerprint()
    assert artefact.config["train"]["epochs"] == 3


@pytest.mark.parametrize("optimiser", ["adam", "adagrad"])
def test_large_tables_learn_with_sparse_gradients(optimiser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ranker.optimisers.SPARSE_FROM", 10)
    metrics = run(config=TrainConfig(epochs=3, batch_size=256, learning_rate=0.02, optimiser=optimiser)).metrics
    assert metrics["click"]["auc"] > 0.8


def test_average_by_hand() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = Average(layer, 0.999)
    torch.nn.init.ones_(layer.weight)
    average.update()  # keeps 2 / 11 of zero
    with average.in_place():
        assert layer.weight.item() == pytest.approx(9 / 11)
    assert layer.weight.item() == 1


@pytest.mark.parametrize("power", [0, 1, 2])
def test_an_average_weighs_steps_by_a_power_of_their_number(power: float) -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = Average(layer, 0.999999, power)
    for step in range(1, 101):
        torch.nn.init.constant_(layer.weight, step)
        average.update()
    steps = np.arange(101)  # the first weights count as step 0
    with average.in_place():
        assert layer.weight.item() == pytest.approx(np.average(steps, weights=(steps + 1.0) ** power), rel=0.01)


def test_rates_fall_as_worked_by_hand() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    two = [
        torch.optim.Adam([{"params": weights[:1], "lr": 0.8}, {"params": weights[1:2], "lr": 0.4}]),
        torch.optim.Adam(weights[2:], lr=0.2),
    ]
    schedule = Schedule("cosine", two, n_steps=4)
    for step, factor in ((0, 1.0), (1, 0.8535534), (2, 0.5), (3, 0.1464466), (4, 0.0), (9, 0.0)):  # (1 + cos(pi step / 4)) / 2
        schedule.at(step)
        rates = [group["lr"] for optimiser in two for group in optimiser.param_groups]
        assert rates == pytest.approx([0.8 * factor, 0.4 * factor, 0.2 * factor])


def test_the_loop_follows_the_schedule() -> None:
    """Of two steps a linear schedule takes the first at the full rate, the second at half of it."""

    def weights(schedule: str, rows: int, optimiser: str = "adagrad") -> list[torch.Tensor]:
        config = TrainConfig(epochs=1, batch_size=500, schedule=schedule, optimiser=optimiser, precision="float32")
        return list(run(config=config, train=TRAIN.take(np.arange(rows))).model.parameters())

    assert all(torch.equal(p, q) for p, q in zip(weights("constant", 500), weights("linear", 500), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(weights("constant", 1000), weights("linear", 1000), strict=True))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"train": TRAIN.take(np.zeros(0, int))}, "the train log is empty"),
        ({"valid": VALID.take(VALID["click"] == 1)}, "'click' has one class only"),
        ({"train": TRAIN.with_columns({"price": np.where(TRAIN["user_id"] == 3, np.nan, TRAIN["price"])})}, "'price' is NaN"),
        ({"train": TRAIN.with_columns({"price": TRAIN["watch_s"]})}, "equals the label of task 'watch_s'"),
        ({"train": LoggedDataset({n: TRAIN[n] for n in TRAIN if n != "item_id"})}, "no column 'item_id'"),
    ],
)
def test_data_that_cannot_be_trained_on(part: dict[str, LoggedDataset], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(**part)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs = 0 must be at least 1"),
        ({"monitor": "f1"}, "'f1' is not one of"),
        ({"precision": "int4"}, "'int4' is not one of"),
        ({"average": 1.0}, "must lie in"),
        ({"average_power": -1.0}, "average_power = -1.0 must be at least 0"),
        ({"schedule": "step"}, "'step' is not one of constant, linear, cosine"),
        ({"epoch": 3}, "unknown training setting 'epoch'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_json(settings)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown model 'bert'"):
        train(SPEC, "bert", train=TRAIN, valid=VALID, progress=False)
    with pytest.raises(ConfigError, match="unknown option 'n_expert'"):
        run(options={"n_expert": 3})
    with pytest.raises(ConfigError, match="is not one of adam, adagrad"):
        run(config=TrainConfig(optimiser="sgd"))
    with pytest.raises(ConfigError, match="unknown balance 'equal'"):
        run(config=TrainConfig(balance="equal"))
