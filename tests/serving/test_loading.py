"""Loading: a real release ranks what the ranker itself would; whatever is missing, damaged or does not fit is one clear error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError, ScorefusionError
from core.events import Request
from core.logs import LoggedDataset
from ranker.predictor import Predictor
from serving import loading
from serving.settings import Settings
from tests.serving import small


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return small.make(tmp_path_factory.mktemp("release"))


def test_served_scores_are_the_rankers_own(settings: Settings) -> None:
    """Train/serve skew: the tables looked up by id give the scores of the same columns in the joint form."""
    loaded = loading.load(settings)
    ids = np.random.default_rng(0).permutation(small.N_ITEMS)[:50]
    ranked = loaded.engine.run(Request("r", "7", ids))
    items, users = small.tables()
    columns = {n: c[ids] for n, c in items.items()} | {n: np.repeat(c[7], 50) for n, c in users.items()}
    store = ArtefactStore(settings.resolve(settings.artefacts))
    joint = Predictor.load(store.find("ranker/small")).score_columns(columns)
    assert np.allclose(ranked.table.values, joint.values, atol=1e-5)
    assert (ranked.slate.degraded, ranked.n_unknown_items, ranked.unknown_user) == (None, 0, False)


def test_inline_features_give_the_tables_scores(settings: Settings) -> None:
    loaded = loading.load(settings)
    items, _ = small.tables()
    ids = np.arange(20)
    inline = {name: items[name][ids] for name in ("author", "quality", "length_s")}
    by_id, sent = (loaded.engine.run(Request("r", "7", ids, features=f)) for f in (None, inline))
    assert np.allclose(by_id.table.values, sent.table.values, atol=1e-5)


def test_unknown_users_and_items_are_scored_and_counted(settings: Settings) -> None:
    ranked = loading.load(settings).engine.run(Request("r", "nobody", np.array([1, 10**9, -4])))
    assert (ranked.n_unknown_items, ranked.unknown_user, ranked.slate.degraded) == (2, True, None)
    assert np.isfinite(ranked.table.values).all()
    assert np.array_equal(ranked.table.values[1], ranked.table.values[2])


def test_the_plan_assigns_and_is_shown(settings: Settings) -> None:
    loaded = loading.load(settings)
    assert loaded.plan is not None
    assert loaded.plan.experiments == ["weights"]
    slate = loaded.engine.rank(Request("r", "7", np.arange(5)))
    shown = loaded.plan.assignments({"user_id": 7, "scenario": ""})["fusion"]
    assert slate.buckets["fusion"] == shown["bucket"]
    assert slate.strategy == shown["strategy"]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"ranker": "ranker/none"}, ArtefactError, "no ranker named 'none'"),
        ({"ranker": "ranker/small/v9"}, ArtefactError, "versions there: v1"),
        ({"items": "none.parquet"}, DataError, "no Parquet file"),
        ({"users": "items.parquet"}, DataError, "user_id|feature"),
        ({"plan": "none.yaml"}, ConfigError, "cannot be read"),
        ({"rules": ({"kind": "hide"},)}, ConfigError, "kind must be"),
        ({"strategies": {"hand_set": "strategy/hand_set"}}, ConfigError, "searched"),
    ],
)
def test_what_does_not_fit_is_said(settings: Settings, changes: Any, kind: type[ScorefusionError], words: str) -> None:
    with pytest.raises(kind, match=words):
        loading.load(replace(settings, **changes))


def test_a_damaged_artefact_is_refused(tmp_path: Path) -> None:
    settings = small.make(tmp_path)
    weights = tmp_path / "artefacts/ranker/small/v1/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtefactError, match="damaged"):
        loading.load(settings)


def test_weights_fitted_to_another_ranker_are_refused(tmp_path: Path) -> None:
    settings = small.make(tmp_path)
    small.make(tmp_path)  # publishes ranker v2 and strategies v2, which belong together
    mixed = replace(settings, strategies={"hand_set": "strategy/hand_set/v1", "searched": "strategy/searched/v1"})
    with pytest.raises(ConfigError, match=r"fitted to the scores of ranker/small/v1, not of ranker/small/v2"):
        loading.load(mixed)


def test_a_block_of_numbers_needs_a_ranker_of_numbers_only(settings: Settings) -> None:
    store = ArtefactStore(settings.resolve(settings.artefacts))
    assert loading.item_matrix(Predictor.load(store.find("ranker/small"))) is None


def test_the_block_of_numbers_is_the_encoders_own(tmp_path: Path) -> None:
    from ranker.features import FeatureSpec
    from ranker.train import TrainConfig, train

    items, users = small.tables()
    features = [
        {"name": n, "kind": "dense", "side": "item", "transform": t} for n, t in (("quality", "standard"), ("length_s", "none"))
    ]
    spec = FeatureSpec.from_json(
        {"tasks": [{"name": "click"}], "features": [*features, {"name": "taste", "kind": "dense", "side": "user"}]}
    )
    log = small.log(items, users, 500)
    predictor = train(spec, "mmoe", train=log, valid=log, config=TrainConfig(epochs=1), progress=False).predictor
    matrix = loading.item_matrix(predictor)
    assert matrix is not None
    block = np.stack([items["quality"], items["length_s"]], 1)
    assert np.allclose(matrix(block).x.numpy(), predictor.encode("item", items).x.numpy(), atol=1e-5)
    with pytest.raises(DataError, match="reads 2 numbers"):
        matrix(block[:, :1])


def test_first_start_makes_a_world_once(tmp_path: Path) -> None:
    from serving.bootstrap import ensure

    first = ensure(Settings(work_dir=str(tmp_path)), progress=False)
    again = ensure(Settings(work_dir=str(tmp_path)), progress=False)
    assert first == again
    ranked = loading.load(first).engine.run(Request("r", "3", np.arange(100)))
    assert ranked.slate.degraded is None
    assert ranked.table.tasks == ("click", "long_view", "complete", "like", "watch_s")
    assert LoggedDataset.from_parquet(first.resolve(first.items))["item_id"].tolist() == list(range(3_000))
