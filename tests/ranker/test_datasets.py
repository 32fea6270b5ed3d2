"""Tasks with data sets of their own: joined they are one log; taking turns, each batch is of one; auxiliary tasks only help."""

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.batches import AlternatingBatches, MemoryBatches, pack
from ranker.checks import example_log, example_spec
from ranker.datasets import DATA_SET, join
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.report import facts
from ranker.train import TrainConfig, Trained, train

TASKS = TaskSet([TaskSpec("click"), TaskSpec("buy"), TaskSpec("grade", "multiclass", level="user", n_classes=3)])
SPEC = example_spec(TASKS)
CONFIG = TrainConfig(epochs=2, batch_size=32, learning_rate=0.01, patience=5)
MIXED, TURNS = CONFIG, TrainConfig(epochs=2, batch_size=32, learning_rate=0.01, patience=5, alternate=DATA_SET)


def whole(n: int = 200, seed: int = 0) -> LoggedDataset:
    log = example_log(n, seed)
    return log.with_columns({"buy": ((log["item_id"] % 3 == 0) ^ (log["scenario"] > 1)).astype(float)})


def some(log: LoggedDataset, *left_out: str) -> LoggedDataset:
    return LoggedDataset({name: column for name, column in log.columns.items() if name not in left_out})


def apart() -> dict[str, LoggedDataset]:
    log = whole()
    feed = some(log.take(np.arange(120)), "buy", "grade", "like", "watch_s")
    shop = some(log.take(np.arange(120, 170)), "click", "grade", "like", "watch_s")
    people = some(log.take(np.arange(170, 200)), "click", "buy", "like", "watch_s", "item_id", "tags", "price")
    return {"feed": feed, "shop": shop, "people": people}


def fitted(log: LoggedDataset, config: TrainConfig, model: str = "mmoe", spec: FeatureSpec = SPEC) -> Trained:
    return train(spec, model, train=log, valid=whole(100, 1), config=config, progress=False)


def same(a: Trained, b: Trained) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_joined_data_sets_are_the_log_with_labels_not_observed() -> None:
    """Mixed training on the data sets equals, to the bit, training on one log that has NaN where a data set has no label."""
    log = whole()
    holes = {"click": (0, 120), "buy": (120, 170), "grade": (170, 200)}
    place = np.arange(len(log))
    one = log.with_columns(
        {n: np.where((place >= a) & (place < b), np.asarray(log[n], float), np.nan) for n, (a, b) in holes.items()}
    )
    parts = {name: part for name, part in apart().items() if name != "people"} | {
        "people": some(log, "click", "buy").take(place >= 170)
    }
    assert same(fitted(join(SPEC, parts), MIXED), fitted(one, MIXED))


def test_one_data_set_in_turns_is_plain_training() -> None:
    log = whole()
    assert same(fitted(join(SPEC, {"all": log}), TURNS), fitted(log, MIXED))


def test_turns_hold_one_data_set_each_and_every_row_once() -> None:
    log = join(SPEC, apart())
    encoder = Encoder.fit(SPEC, log)
    source = AlternatingBatches.by(log[DATA_SET], pack(encoder, log, {}))
    batches = list(source.epoch(3, 32))
    assert len(batches) == source.steps(32) == 4 + 2 + 1
    assert sum(len(batch) for batch in batches) == len(log) == source.n_rows
    held = [tuple((batch.weights.sum(0) > 0).tolist()) for batch in batches]
    assert all(sum(tasks) == 1 for tasks in held)
    assert len({tuple(tasks) for tasks in held}) == 3
    assert held != sorted(held)
    assert held != sorted(held, reverse=True)
    again = [batch.ids for batch in source.epoch(3, 32)]
    assert all(torch.equal(batch.ids, ids) for batch, ids in zip(batches, again, strict=True))


@pytest.mark.parametrize("alternate", ["", DATA_SET])
@pytest.mark.parametrize("model", ["mmoe", "dupn", "aesm2"])
def test_every_task_learns_from_its_own_data_set(model: str, alternate: str) -> None:
    """Buying follows from the item; the other labels are noise, their losses must only be there."""
    config = TrainConfig(epochs=8, batch_size=16, learning_rate=0.01, patience=9, alternate=alternate)
    trained = fitted(join(SPEC, apart()), config, model)
    first, last = trained.history[0]["loss"], trained.history[-1]["loss"]
    assert all(0 < last[task] < 2 for task in TASKS.names)
    assert last["buy"] < 0.8 * first["buy"]


def test_item_columns_that_no_task_reads_are_borrowed() -> None:
    joined = join(SPEC, apart())
    people = joined.take(joined[DATA_SET] == "people")
    assert set(people["item_id"]) <= set(apart()["feed"]["item_id"])
    assert np.isnan(people["click"]).all()
    with pytest.raises(DataError, match="'shop' lacks column 'price', and task 'buy' reads it"):
        join(SPEC, apart() | {"shop": some(apart()["shop"], "price")})
    with pytest.raises(DataError, match="'people' lacks column 'age', and it is a feature"):
        join(SPEC, apart() | {"people": some(apart()["people"], "age")})


def test_data_sets_that_cannot_be_joined() -> None:
    with pytest.raises(DataError, match="no data set"):
        join(SPEC, {})
    with pytest.raises(DataError, match="'feed' labels no task"):
        join(SPEC, {"feed": some(apart()["feed"], "click")})
    spec = example_spec(TaskSet([TaskSpec("click"), TaskSpec("like", sample_space="click")]))
    with pytest.raises(DataError, match="not its sample space 'click'"):
        join(spec, {"likes": some(whole(), "click")})


def test_a_weight_column_may_be_missing_in_some() -> None:
    spec = FeatureSpec(SPEC.features, TASKS, weight="trust")
    parts = apart()
    parts["shop"] = parts["shop"].with_columns({"trust": np.full(50, 3.0)})
    joined = join(spec, parts)
    assert joined["trust"][joined[DATA_SET] == "shop"].tolist() == [3.0] * 50
    assert joined["trust"][joined[DATA_SET] != "shop"].tolist() == [1.0] * 150


@pytest.mark.parametrize("balance", ["decay", "pcgrad", "mgda"])
def test_balances_that_bear_turns(balance: str) -> None:
    trained = fitted(join(SPEC, apart()), TrainConfig(epochs=1, batch_size=32, alternate=DATA_SET, balance=balance))
    assert all(np.isfinite(value) for value in trained.history[0]["loss"].values())


def test_balances_that_compare_tasks_refuse_turns() -> None:
    with pytest.raises(ConfigError, match="balance 'gradnorm' needs every task in each batch"):
        fitted(join(SPEC, apart()), TrainConfig(alternate=DATA_SET, balance="gradnorm"))
    with pytest.raises(ConfigError, match="alternate and ranking do not go together"):
        fitted(join(SPEC, apart()), TrainConfig(alternate=DATA_SET, ranking={"group": "user_id"}))


# main and auxiliary tasks ---------------------------------------------------------------------------------------------


def test_an_auxiliary_task_of_factor_zero_changes_nothing_of_the_main_ones() -> None:
    """Its rows still count for the others, its loss does not."""
    two = TaskSet([TaskSpec("click"), TaskSpec("buy")])
    config = TrainConfig(epochs=2, batch_size=32, learning_rate=0.01, patience=5, auxiliary={"buy": 0.0}, monitor="loss")
    a = fitted(whole(), config, spec=example_spec(two))
    flipped = whole().with_columns({"buy": 1 - whole()["buy"]})
    b = fitted(flipped, config, spec=example_spec(two))
    assert same(a, b)


def test_only_main_tasks_choose_the_epoch() -> None:
    trained = fitted(whole(), TrainConfig(epochs=3, batch_size=32, patience=5, auxiliary={"buy": 0.5}))
    assert max(row["score"] for row in trained.history) == pytest.approx(trained.metrics["click"]["auc"])


def test_a_factor_is_a_loss_weight() -> None:
    config = TrainConfig(epochs=1, batch_size=32, monitor_tasks=("click",))
    a = fitted(whole(), TrainConfig(epochs=1, batch_size=32, monitor_tasks=("click",), auxiliary={"buy": 0.5}))
    b = fitted(whole(), TrainConfig(**{**config.__dict__, "balance_options": {"weights": {"buy": 0.5}}}))
    assert same(a, b)


def test_validation_rows_may_lack_an_auxiliary_label() -> None:
    config = TrainConfig(epochs=1, batch_size=32, auxiliary={"buy": 1.0})
    trained = train(SPEC, "mmoe", train=whole(), valid=some(whole(100, 1), "buy"), config=config, progress=False)
    assert trained.metrics["buy"] == {"n": 0.0}
    assert facts(trained, some(whole(100, 1), "buy"))["calibration"]["buy"]["n"] == []
    with pytest.raises(DataError, match="'buy' needs column 'buy'"):
        train(SPEC, "mmoe", train=whole(), valid=some(whole(100, 1), "buy"), progress=False)


def test_wrong_auxiliary_tasks_are_named() -> None:
    for auxiliary, what in (({"x": 1.0}, "names 'x'"), (dict.fromkeys(TASKS.names, 1.0), "names every task")):
        with pytest.raises(ConfigError, match=what):
            fitted(whole(), TrainConfig(auxiliary=auxiliary))
    with pytest.raises(ConfigError, match="factor -1 of task 'buy'"):
        TrainConfig(auxiliary={"buy": -1})


def test_memory_batches_count_their_steps() -> None:
    log = whole()
    source = MemoryBatches(pack(Encoder.fit(SPEC, log), log, {}))
    assert source.steps(64) == len(list(source.epoch(0, 64))) == 4
