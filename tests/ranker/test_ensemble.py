"""Several networks as one: each alone what a single network is, together the mean of what they predict, in every use."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker import checks, models
from ranker.balance import BALANCERS
from ranker.batches import MemoryBatches, StackedBatches, pack
from ranker.config import TrainConfig
from ranker.encoder import Encoder, Layout
from ranker.features import Feature, FeatureSpec
from ranker.heads import Outputs, mean_of, predict
from ranker.incremental import update
from ranker.inputs import own
from ranker.models.base import MultiTaskModel
from ranker.predictor import Predictor
from ranker.train import Trained, train

SPEC = FeatureSpec(
    [Feature("user_id", side="user"), Feature("item_id"), Feature("price", "dense")],
    TaskSet([TaskSpec("click"), TaskSpec("like", sample_space="click")]),
)
QUICK = TrainConfig(epochs=2, batch_size=256, learning_rate=0.01)


def world(n: int = 3000, items: int = 20, seed: int = 0) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    item, user, price = rng.integers(0, items, n), rng.integers(0, 30, n), rng.normal(0, 1, n)
    click = (rng.random(n) < 1 / (1 + np.exp(-(item - 10) / 4 - price))).astype(float)
    like = np.where(click > 0, (rng.random(n) < 0.2 + 0.02 * item).astype(float), np.nan)
    return LoggedDataset(
        {"user_id": user, "item_id": item, "price": price, "click": click, "like": like, "time_ms": np.arange(n)}
    )


def run(members: int = 2, model: str = "mmoe", **more: object) -> Trained:
    rows, later = world().split_time(2400)
    settings: dict[str, object] = {"config": QUICK, "progress": False, **more}
    options = {"members": members, "dropout": 0.2}
    return train(SPEC, model, train=rows, valid=later, options=options, **settings)  # type: ignore[arg-type]  # by test


def make(name: str, members: int, layout: Layout, tasks: TaskSet) -> MultiTaskModel:
    return models.make(name, layout, tasks, {"members": members})


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", models.MODELS)
def test_ensemble_keeps(name: str, check: checks.Check) -> None:
    check(functools.partial(make, name, 2))


def alone(example: checks.Example, name: str, which: int, members: int) -> MultiTaskModel:
    """One member as a network of its own, from the ensemble's weights."""
    single = models.make(name, example.encoder.layout, example.tasks)
    state = single.state_dict()
    for key, value in example.model.state_dict().items():
        if key.startswith(f"networks.{which}."):
            state[key.removeprefix(f"networks.{which}.")] = value
        elif key.startswith("inputs."):
            narrow = own(value, (which, members))
            state[next(k for k in state if k.startswith("inputs.") and state[k].shape == narrow.shape)] = narrow
    single.load_state_dict(state)
    return single.eval()


@pytest.mark.parametrize("name", models.MODELS)
def test_predictions_are_the_mean_of_what_the_members_say_alone(name: str) -> None:
    example = checks.Example(functools.partial(make, name, 3))
    singles = [alone(example, name, which, 3) for which in range(3)]
    each = [Predictor(name, {}, example.encoder, single, example.scales) for single in singles]
    wanted = np.mean([predictor.score_columns(example.log.columns).values for predictor in each], 0)
    found = example.predictor.score_columns(example.log.columns).values
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    gaps = [np.abs(a.score_columns(example.log.columns).values - wanted).max() for a in each]
    assert min(gaps) > 1e-3  # members differ, so the mean is no member's


def test_the_mean_of_multiclass_and_user_level_tasks_is_of_probabilities_too() -> None:
    tasks = TaskSet([*checks.TASKS, TaskSpec("grade", "multiclass", level="user", n_classes=3)])
    rng = torch.Generator().manual_seed(0)
    two = [Outputs(torch.randn(5, 3, generator=rng), {"grade": torch.randn(5, 3, generator=rng)}) for _ in range(2)]
    grade = predict(tasks, mean_of(tasks, two))[1]["grade"]
    assert torch.allclose(grade, (F.softmax(two[0].other["grade"], -1) + F.softmax(two[1].other["grade"], -1)) / 2)


@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=5))
def test_the_mean_of_probabilities_is_exact_and_finite_where_they_round_to_0_or_1(logits: list[float]) -> None:
    tasks = TaskSet([TaskSpec("click")])
    mean = mean_of(tasks, [Outputs(torch.tensor([[x]])) for x in logits]).logits.double()
    assert torch.isfinite(mean).all()
    wanted = np.mean(1 / (1 + np.exp(-np.array(logits, float))))
    assert torch.sigmoid(mean).item() == pytest.approx(wanted, rel=1e-4)


def test_each_member_meets_every_row_once_in_an_order_of_its_own() -> None:
    log = world(500)
    rows = pack(Encoder.fit(SPEC, log), log, {})
    rows.group = torch.arange(500) // 10
    batches = list(StackedBatches(MemoryBatches(rows), 2).epoch(0, 64))
    assert [batch.shares for batch in batches] == [(64, 64)] * 7 + [(52, 52)]
    seen = [torch.cat([b.dense[: b.shares[0], 0] if m == 0 else b.dense[b.shares[0] :, 0] for b in batches]) for m in (0, 1)]
    for order in seen:
        assert torch.equal(order.sort().values, rows.dense[:, 0].sort().values)
    assert not torch.equal(*seen)
    for batch in batches:
        assert batch.group is not None
        first, second = torch.split(batch.group, list(batch.shares))
        assert not set(first.tolist()) & set(second.tolist())


@pytest.mark.parametrize("name", ["mmoe", "single_task", "escm2"])
def test_no_member_hears_of_another(name: str) -> None:
    """Another start of the second changes the second alone, in the weights and in its share of the tables."""

    def push(model: MultiTaskModel) -> None:
        with torch.no_grad():
            for key, value in model.named_parameters():
                if key.startswith("networks.1."):
                    value.add_(0.1)

    config = TrainConfig(epochs=1, batch_size=256, learning_rate=0.01)
    tasks = TaskSet([TaskSpec("click"), TaskSpec("like")])
    spec = FeatureSpec(SPEC.features, tasks)
    log = world()
    rows, later = log.with_columns({"like": np.nan_to_num(log["like"])}).split_time(2400)
    made = [
        train(spec, name, train=rows, valid=later, config=config, options={"members": 2}, prepare=prepare, progress=False)
        for prepare in (None, push)
    ]
    plain, pushed = (one.model.state_dict() for one in made)
    for key, value in plain.items():
        first = own(value, (0, 2)) if key.startswith("inputs.") else value
        other = own(pushed[key], (0, 2)) if key.startswith("inputs.") else pushed[key]
        if not key.startswith("networks.1."):
            assert torch.allclose(first, other, atol=1e-6), key
        elif value.is_floating_point():
            assert not torch.allclose(first, other, atol=1e-3), key


@pytest.mark.parametrize("balance", BALANCERS)
def test_it_trains_and_resumes_with_every_balance(balance: str, tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, batch_size=512, learning_rate=0.01, balance=balance)
    whole = run(config=config)
    resumed = run(config=config, checkpoints=tmp_path)
    again = run(config=config, checkpoints=tmp_path)  # reads the finished run
    for a, b, c in zip(whole.model.parameters(), resumed.model.parameters(), again.model.parameters(), strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)
        assert torch.equal(b, c)


def test_ranking_terms_and_turns_go_with_members() -> None:
    ranked = TrainConfig(epochs=1, batch_size=256, ranking={"kind": "listwise", "group": "user_id"})
    assert np.isfinite(run(config=ranked).metrics["click"]["auc"])
    turns = TrainConfig(epochs=1, batch_size=256, alternate="user_id")
    assert np.isfinite(run(config=turns).metrics["click"]["auc"])


def test_it_is_published_loaded_and_gone_on_from(tmp_path: Path) -> None:
    trained = run()
    artefact = trained.publish(ArtefactStore(tmp_path), "three")
    loaded = Predictor.load(artefact)
    columns = world(50, seed=3).columns
    assert np.array_equal(loaded.score_columns(columns).values, trained.predictor.score_columns(columns).values)
    rows, later = world(items=25, seed=4).split_time(2400)
    today = update(artefact, train_rows=rows, valid_rows=later, progress=False)
    assert today.model.n_members == 2
    assert today.encoder.layout.rows["item_id"] == trained.encoder.layout.rows["item_id"] + 5


@pytest.mark.parametrize("members", [0, -1, 65, 2.0, True, "3", None])
def test_a_number_of_members_outside_its_range_is_refused(members: object) -> None:
    log = world(100)
    with pytest.raises(ConfigError, match=r"members = .* must be a whole number from 1 to 64"):
        models.make("mmoe", Encoder.fit(SPEC, log).layout, SPEC.tasks, {"members": members})


def test_an_unknown_option_is_named_as_for_one_network() -> None:
    log = world(100)
    with pytest.raises(ConfigError, match=r"MMoE: unknown option 'experts'.*members"):
        models.make("mmoe", Encoder.fit(SPEC, log).layout, SPEC.tasks, {"members": 2, "experts": 4})
