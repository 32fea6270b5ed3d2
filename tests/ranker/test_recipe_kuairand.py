"""The KuaiRand recipe on a small folder of its format: duplicates dropped, split by day, nothing known before it happened."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.checks import Example
from ranker.config import TrainConfig
from ranker.dropout import Dropout
from ranker.models import MODELS, make
from ranker.recipes import Recipe, kuairand, kuairand_known
from ranker.train import train

DAYS = [20220425 + i for i in range(6)] + [20220501 + i for i in range(6)]


def write(folder: Path, *, flip_after: int | None = None) -> Path:
    rng = np.random.default_rng(0)
    n, n_users, n_items = 900, 30, 25
    day = np.sort(rng.integers(0, 12, n))
    log = pd.DataFrame(
        {
            "user_id": rng.integers(0, n_users, n),
            "video_id": rng.integers(0, n_items, n),
            "date": np.array(DAYS)[day],
            "hourmin": rng.integers(0, 24, n) * 100,
            "time_ms": 1650812400000 + day * 86_400_000 + np.arange(n) * 60_000,
            **{label: (rng.random(n) < 0.4).astype(int) for label in kuairand.LABELS},
            "play_time_ms": rng.integers(0, 60_000, n),
            "duration_ms": rng.integers(5_000, 90_000, n),
            "tab": rng.integers(0, 3, n),
        }
    )
    if flip_after is not None:
        late = log["date"] > flip_after
        log.loc[late, "is_click"] = 1 - log.loc[late, "is_click"]
    log = pd.concat([log, log.iloc[:50]])  # fully duplicated rows, as upstream has them
    folder.mkdir(exist_ok=True)
    log.to_parquet(folder / kuairand.FILES["log"])
    users = {name: rng.integers(0, 3, n_users) for name in (*kuairand._USER_IDS, *kuairand._USER_NUMBERS)}
    pd.DataFrame({"user_id": np.arange(n_users), **users}).to_csv(folder / kuairand.FILES["users"], index=False)
    items = {
        "video_id": np.arange(n_items),
        "author_id": np.arange(n_items) % 7,
        "music_id": np.arange(n_items) % 5,
        "video_type": "NORMAL",
        "upload_type": ["ShortImport", "LongImport"] * 12 + [None],
        "upload_dt": "2022-04-10",
        "music_type": 9.0,
        "video_duration": [np.nan, *np.arange(1, n_items) * 1000.0],
        "server_width": 720.0,
        "server_height": np.arange(n_items) * 10.0,
        "tag": ["1", "2,3", None, "4", "5"] * 5,
    }
    pd.DataFrame(items).to_csv(folder / kuairand.FILES["items"], index=False)
    lists = [list(rng.integers(0, n_items, rng.integers(0, 9))) for _ in range(n_users)]
    history = {"watch_seq": lists, "like_seq": [v[:1] for v in lists], "long_watch_seq": [v[:3] for v in lists]}
    frame = pd.DataFrame({"user_id": np.arange(n_users), "history_len": [len(v) for v in lists], **history})
    frame.to_parquet(folder / kuairand.FILES["history"])
    return folder


@pytest.fixture(autouse=True)
def few_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuairand_known, "FACTORS", 4)


def test_split_by_day_without_duplicates(tmp_path: Path) -> None:
    recipe = kuairand.load(write(tmp_path))
    assert len(recipe.train) + len(recipe.valid) + len(recipe.test) == 900
    assert recipe.train["date"].max() == 20220502
    assert set(recipe.valid["date"]) == {20220503}
    assert recipe.test["date"].max() == 20220506


@pytest.mark.parametrize("fresh", ["day", "moment"])
def test_later_labels_change_no_earlier_feature(tmp_path: Path, fresh: str) -> None:
    a, b = (kuairand.features(write(tmp_path / str(flip), flip_after=flip), fresh=fresh) for flip in (None, 20220502))
    early = (a["date"] <= 20220502).to_numpy()
    columns = [c for c in kuairand.spec_for().columns() if c != "tags"]
    pd.testing.assert_frame_equal(a.loc[early, columns], b.loc[early, columns])
    late = a["date"] > 20220504
    for column in ("user_click", "item_click", "expected_click"):
        assert not np.array_equal(a.loc[late, column], b.loc[late, column])


def test_statistics_by_day_ignore_the_day_itself(tmp_path: Path) -> None:
    frame = kuairand.features(write(tmp_path), fresh="day")
    assert (frame.loc[frame["date"] == DAYS[0], "user_n"] == 0).all()
    per_user = frame[frame["date"] < DAYS[3]].groupby("user_id").size()
    today = frame[frame["date"] == DAYS[3]]
    assert np.array_equal(today["user_n"], today["user_id"].map(per_user).fillna(0))


def test_a_users_own_answers_of_the_day_are_not_known(tmp_path: Path) -> None:
    a = kuairand.features(write(tmp_path / "a"), fresh="moment")
    b = kuairand.features(write(tmp_path / "b", flip_after=DAYS[7]), fresh="moment")
    day = (a["date"] == DAYS[8]).to_numpy()
    own = [c for c in kuairand_known.COLUMNS if c.startswith(("user_click", "user_mean", "user_n", "user_before"))]
    pd.testing.assert_frame_equal(a.loc[day, own], b.loc[day, own])
    assert not np.array_equal(a.loc[day, "item_click"], b.loc[day, "item_click"])  # others' answers are, ten minutes later


def test_counts_of_the_histories(tmp_path: Path) -> None:
    frame = kuairand.features(write(tmp_path))
    history = pd.read_parquet(tmp_path / kuairand.FILES["history"]).set_index("user_id")
    row = frame.iloc[17]
    watched = list(history.loc[row["user_id"], "watch_seq"])
    assert row["user_before_watch"] == len(watched)
    assert row["item_before_watch"] == sum(list(seq).count(row["item_id"]) for seq in history["watch_seq"])
    many, few = row["user_before_watch"], row["user_before_like"]
    assert row["user_before_like_rate"] == np.log((few + 1) / (many + 5))


def test_every_column_of_the_spec_is_made_and_none_beside(tmp_path: Path) -> None:
    frame = kuairand.features(write(tmp_path))
    assert set(kuairand_known.COLUMNS) <= set(frame.columns)
    assert set(kuairand_known.COLUMNS) <= set(kuairand.spec_for().columns())


def test_it_trains(tmp_path: Path) -> None:
    recipe = kuairand.load(write(tmp_path), ids=True)
    config = TrainConfig(epochs=1, monitor_tasks=kuairand.MAIN)
    trained = train(recipe.spec, "mmoe", train=recipe.train, valid=recipe.valid, config=config, progress=False)
    scores = trained.predictor.score_columns(recipe.test.columns)
    assert scores.finite
    assert scores.tasks == recipe.spec.tasks.scored


@pytest.mark.parametrize("model", list(MODELS))
def test_its_options_fit_every_architecture(model: str) -> None:
    none = LoggedDataset({})
    recipe = Recipe("any", kuairand.spec_for(["click"]), none, none, none, options=kuairand.OPTIONS, own=kuairand.OWN)
    tasks = TaskSet([TaskSpec("click"), TaskSpec("like")])
    network = Example(lambda layout, tasks: make(model, layout, tasks, recipe.options_for(model)), tasks).model
    if model != "wide":
        assert {layer.p for layer in network.modules() if isinstance(layer, Dropout)} == {recipe.options_for(model)["dropout"]}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="log_standard"):
        kuairand.load(tmp_path)
