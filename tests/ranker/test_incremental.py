"""Going on from an artefact keeps what was learned and takes in new ids; drift and BatchNorm statistics are looked after."""

from pathlib import Path

import numpy as np
import torch

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.features import Feature, FeatureSpec
from ranker.incremental import drifted, load_trained, recalibrate, update
from ranker.train import Trained, train

SPEC = FeatureSpec([Feature("item_id"), Feature("price", "dense")], TaskSet([TaskSpec("click")]))
CONFIG = TrainConfig(epochs=8, batch_size=128, learning_rate=0.02)


def log(items: tuple[int, int], n: int = 2000, seed: int = 0) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    item, price = rng.integers(*items, n), rng.normal(5, 2, n)
    click = (rng.random(n) < np.where(item % 2 == 0, 0.8, 0.2)).astype(int)
    return LoggedDataset({"user_id": rng.integers(0, 50, n), "item_id": item, "price": price, "click": click})


def yesterday(**options: object) -> Trained:
    rows, later = log((0, 10)), log((0, 10), 800, 1)
    return train(SPEC, "shared_bottom", train=rows, valid=later, config=CONFIG, options=options, progress=False)


def test_an_update_from_an_artefact_learns_new_ids_and_keeps_the_old(tmp_path: Path) -> None:
    artefact = yesterday().publish(ArtefactStore(tmp_path), "daily")
    assert load_trained(artefact).config == CONFIG
    today = update(artefact, train_rows=log((8, 16), seed=2), valid_rows=log((8, 16), 800, 3), progress=False)
    assert today.encoder.layout.rows["item_id"] == 2 + 16
    assert today.metrics["click"]["auc"] > 0.75
    old = log((0, 8), 800, 4)
    scores = today.predictor.score_columns(old.columns)["click"]
    assert scores[old["item_id"] % 2 == 0].mean() > scores[old["item_id"] % 2 == 1].mean() + 0.2


def test_drift_is_found_and_steadiness_is_not() -> None:
    predictor = yesterday().predictor
    served = log((0, 10), seed=5).columns
    assert drifted(predictor, served) == {}
    found = drifted(predictor, {**served, "price": served["price"] + 2})
    assert abs(found["price"] - 1) < 0.1
    assert drifted(predictor, {"price": np.full(5, 99.0)}) == {}  # too few rows to say


def test_statistics_of_batchnorm_come_from_the_unsampled_rows() -> None:
    trained = yesterday(norm=True)
    before = {k: v.clone() for k, v in trained.model.state_dict().items()}
    assert recalibrate(trained, log((0, 10), seed=6).with_columns({"price": np.full(2000, 5.0)})) > 0
    after = trained.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)
    assert recalibrate(yesterday(), log((0, 10))) == 0


def test_a_fixed_position_is_learned_from_and_not_scored_with() -> None:
    rng = np.random.default_rng(77)
    base = log((0, 10), 4000)
    position = rng.integers(1, 6, len(base))
    click = (rng.random(len(base)) < np.where(base["item_id"] % 2 == 0, 0.9, 0.3) / position).astype(int)
    data = base.with_columns({"position": position, "click": click})
    spec = FeatureSpec([*SPEC.features, Feature("position", vocabulary="range", size=10, fixed=1)], SPEC.tasks)
    assert FeatureSpec.from_json(spec.to_json()) == spec
    rows = np.arange(len(data))
    trained = train(
        spec, "shared_bottom", train=data.take(rows < 3000), valid=data.take(rows >= 3000), config=CONFIG, progress=False
    )
    late = trained.predictor.score_columns(data.with_columns({"position": np.full(len(data), 5)}).columns)
    first = trained.predictor.score_columns(data.columns)
    assert np.array_equal(late.values, first.values)
    even = data["item_id"] % 2 == 0
    assert abs(first["click"][even].mean() - 0.9) < 0.15
