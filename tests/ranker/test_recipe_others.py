"""Census in its official split without its answers, Ali-CCP, AliExpress, MovieLens, and any log with a spec split by time."""

from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pytest

from core.arrays import AnyArray
from core.errors import ConfigError, DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.batches import pack
from ranker.encoder import Encoder
from ranker.features import Feature, FeatureSpec
from ranker.recipes import ali_ccp, aliexpress, census_income, generic, movielens
from ranker.targets import Scale


def census(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 200
    columns: dict[str, AnyArray] = {name: rng.integers(0, 50, n) for name in census_income.NUMBERS}
    columns |= {name: rng.integers(0, 2, n) for name in census_income.LABELS}
    for name in ("split", "education", "marital_stat", "income_50k", "sex"):
        columns[name] = np.array(["a", "b"], object)[rng.integers(0, 2, n)]
    columns["split"] = np.array(["train"] * 150 + ["test"] * 50, object)
    columns["instance_weight"] = rng.random(n)
    LoggedDataset(columns).to_parquet(folder / census_income.FILE)
    return folder


def test_census_keeps_the_answers_out(tmp_path: Path) -> None:
    recipe = census_income.load(census(tmp_path))
    assert (len(recipe.train), len(recipe.valid), len(recipe.test)) == (135, 15, 50)
    read = set(recipe.spec.columns())
    assert not read & set(census_income.NEVER)
    assert "education" in read
    assert "education" not in census_income.load(tmp_path, pair="college").spec.columns()
    with pytest.raises(ConfigError, match="'wealth' is not one of"):
        census_income.load(tmp_path, pair="wealth")


SPEC = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click")]))


def log(n: int = 100) -> LoggedDataset:
    rng = np.random.default_rng(0)
    return LoggedDataset({"item_id": np.arange(n) % 5, "time_ms": rng.permutation(n), "click": np.arange(n) % 2})


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_any_log_is_split_by_time(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"log.{ending}"
    if ending == "csv":
        pc.write_csv(log().to_arrow(), path)
    else:
        log().to_parquet(path)
    recipe = generic.load(path, SPEC, valid_share=0.2, test_share=0.1)
    assert recipe.train["time_ms"].max() < recipe.valid["time_ms"].min()
    assert recipe.valid["time_ms"].max() < recipe.test["time_ms"].min()
    assert abs(len(recipe.valid) - 20) <= 1
    assert abs(len(recipe.test) - 10) <= 1


def test_a_repeated_row_counts_once(tmp_path: Path) -> None:
    lists = np.empty(100, object)
    for row in range(100):
        lists[row] = np.arange(row % 3)
    once = log().with_columns({"history": lists})
    twice = LoggedDataset({name: np.concatenate([column, column[40:60]]) for name, column in once.columns.items()})
    recipe = generic.load(twice.to_parquet(tmp_path / "twice.parquet"), SPEC, valid_share=0.2, test_share=0.1)
    assert len(recipe.train) + len(recipe.valid) + len(recipe.test) == 100
    assert (
        len(generic.distinct(once.with_columns({"time_ms": np.zeros(100), "item_id": np.zeros(100), "click": np.zeros(100)})))
        == 3
    )


def test_data_sets_of_their_own_are_split_each_by_its_time(tmp_path: Path) -> None:
    spec = FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click"), TaskSpec("follow")]))
    clicks = log().to_parquet(tmp_path / "clicks.parquet")
    later = {"item_id": log()["item_id"], "time_ms": log()["time_ms"] + 10**6, "follow": log()["click"]}
    follows = LoggedDataset(later).to_parquet(tmp_path / "follows.parquet")
    recipe = generic.load_several({"clicks": clicks, "follows": follows}, spec, valid_share=0.2, test_share=0.1)
    for part in (recipe.train, recipe.valid, recipe.test):
        assert set(part["data_set"]) == {"clicks", "follows"}
        assert np.isnan(part["click"][part["data_set"] == "follows"]).all()
    assert len(recipe.train) + len(recipe.valid) + len(recipe.test) == 200


def test_what_cannot_be_split_or_read_is_said(tmp_path: Path) -> None:
    same = log().with_columns({"time_ms": np.zeros(100)}).to_parquet(tmp_path / "same.parquet")
    with pytest.raises(DataError, match="too few different values"):
        generic.load(same, SPEC)
    unlabelled = LoggedDataset({"item_id": np.arange(3), "time_ms": np.arange(3)}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column 'click'"):
        generic.load(unlabelled, SPEC)
    with pytest.raises(ConfigError, match="must be above 0"):
        generic.load(same, SPEC, valid_share=0)
    with pytest.raises(DataError, match="cannot be read"):
        generic.read(tmp_path / "nothing.csv")


# ali_ccp, aliexpress, movielens ---------------------------------------------------------------------------------------


def ccp(folder: Path, *, n: int = 40) -> Path:
    """Rows of ten users; sample 3 is there twice, sample 4 has a purchase without a click."""
    past = "109_14\x02{}\x030.5\x01109_14\x02{}\x032.0"
    common = [f"u{user},3,101\x02{user}\x031.0\x01{past.format(7 + user, 8 + user)}" for user in range(10)]
    for part in ("train", "test"):
        (folder / f"common_features_{part}.csv").write_text("\n".join(common) + "\n")
        rows = []
        for row in range(n):
            labels = "0,1" if row == 4 else f"{row % 2},{int(row % 4 == 1)}"
            own = "\x01".join(f"{field}\x02{row % 5 + 100}\x031.0" for field in ("205", "206", "210", "301"))
            rows.append(f"{row},{labels},u{row * 10 // n},4,{own}")
        (folder / f"sample_skeleton_{part}.csv").write_text("\n".join([*rows, rows[3]]) + "\n")
    return folder


def test_ali_ccp_joins_common_features_and_drops_noise(tmp_path: Path) -> None:
    recipe = ali_ccp.load(ccp(tmp_path), valid_share=0.25)
    assert len(recipe.test) == 39  # 41 lines, one twice, one purchase without a click
    assert not np.any((recipe.test["buy"] == 1) & (recipe.test["click"] == 0))
    row = int(np.flatnonzero(recipe.test["user_id"] == 3)[0])
    assert recipe.test["past_categories"][row].tolist() == [10, 11]
    assert recipe.test["shop_id"].tolist() == [-1] * 39  # not in the files: a value of its own
    assert set(recipe.train["user_id"]).isdisjoint(recipe.valid["user_id"])
    assert len(recipe.train) + len(recipe.valid) == 39
    encoder = Encoder.fit(recipe.spec, recipe.train)
    assert len(pack(encoder, recipe.valid, {})) == len(recipe.valid)


def test_ali_ccp_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Ali-CCP needs .*common_features_train.csv"):
        ali_ccp.load(tmp_path)
    ccp(tmp_path)
    (tmp_path / "common_features_test.csv").write_text("u1,0,\n")
    with pytest.raises(DataError, match="sample 0 names common features 'u0'"):
        ali_ccp.load(tmp_path)
    (tmp_path / "sample_skeleton_train.csv").write_text("1,0\n")
    with pytest.raises(DataError, match="line 1: 2 cells, not 6"):
        ali_ccp.load(tmp_path)


def country(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for part, n in (("train", 60), ("test", 20)):
        columns: dict[str, AnyArray] = {"search_id": np.arange(n) // 4 + 1000}
        columns |= {f"categorical_{i}": rng.integers(0, 5, n) for i in range(1, 4)}
        columns |= {f"numerical_{i}": rng.random(n) for i in range(1, 3)}
        columns |= {"click": rng.integers(0, 2, n), "conversion": rng.integers(0, 2, n)}
        twice = LoggedDataset({name: np.r_[column, column[:1]] for name, column in columns.items()})  # the first row again
        pc.write_csv(twice.to_arrow(), folder / f"{part}.csv")


def test_aliexpress_countries_are_scenarios_and_searches_stay_whole(tmp_path: Path) -> None:
    for seed, name in enumerate(("AliExpress_ES", "AliExpress_NL")):
        country(tmp_path / name, seed)
    recipe = aliexpress.load(tmp_path)
    assert [len(part) for part in (recipe.train, recipe.valid, recipe.test)] == [104, 16, 40]  # repeated rows are gone
    assert set(recipe.train["scenario"]) == {"ES", "NL"}
    assert set(recipe.train["search_id"]).isdisjoint(recipe.valid["search_id"])
    assert len(set(recipe.test["search_id"])) == 10  # searches of two countries do not share a number
    assert [f.name for f in recipe.spec.features][:2] == ["scenario", "categorical_1"]
    one = aliexpress.load(tmp_path / "AliExpress_NL")
    assert "scenario" not in [f.name for f in one.spec.features]
    with pytest.raises(DataError, match=r"neither train\.csv nor folders"):
        aliexpress.load(tmp_path / "nothing")


def lens(folder: Path, form: str) -> Path:
    """Thirty ratings of six users in ascending time; user 1 rates movie 1 twice."""
    rows = [(1 + i % 6, 1 + i % 5, 1 + i % 3 * 2, 100 + i) for i in range(29)] + [(1, 1, 5, 999)]
    if form == "csv":
        (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(",".join(map(str, r)) for r in rows))
        movies = ["movieId,title,genres", *(f'{m},"Film, {m} (19{80 + m})",Comedy|Drama' for m in range(1, 6))]
        (folder / "movies.csv").write_text("\n".join(movies))
    elif form == "dat":
        (folder / "ratings.dat").write_text("\n".join("::".join(map(str, r)) for r in rows))
        (folder / "movies.dat").write_text("\n".join(f"{m}::Film, {m} (19{80 + m})::Comedy|Drama" for m in range(1, 6)))
        (folder / "users.dat").write_text("\n".join(f"{u}::F::25::3::90210" for u in range(1, 7)))
    else:
        (folder / "u.data").write_text("\n".join("\t".join(map(str, r)) for r in rows))
        genres = "|".join("1" if g in ("Comedy", "Drama") else "0" for g in movielens.GENRES_100K)
        movies = [f"{m}|Film, {m} (19{80 + m})|01-Jan-1990||http://x|{genres}" for m in range(1, 6)]
        (folder / "u.item").write_text("\n".join(movies))
        (folder / "u.user").write_text("\n".join(f"{u}|25|F|writer|90210" for u in range(1, 7)))
    return folder


@pytest.mark.parametrize("form", ["csv", "dat", "100k"])
def test_movielens_reads_each_format(form: str, tmp_path: Path) -> None:
    recipe = movielens.load(lens(tmp_path, form), valid_share=0.2, test_share=0.2)
    parts = (recipe.train, recipe.valid, recipe.test)
    log = LoggedDataset({name: np.concatenate([part[name] for part in parts]) for name in recipe.train})
    assert len({(u, i) for u, i in zip(log["user_id"], log["item_id"], strict=True)}) == len(log) == 29
    assert log["rating"][(log["user_id"] == 1) & (log["item_id"] == 1)].tolist() == [5.0]  # the later one
    assert np.array_equal(log["like"], log["rating"] >= 4)
    assert recipe.train["time_ms"].max() < recipe.valid["time_ms"].min() < recipe.test["time_ms"].min()
    assert log["genres"][0].tolist() == ["Comedy", "Drama"]
    assert log["year"].tolist() == (1980 + log["item_id"]).tolist()
    assert ("gender" in [f.name for f in recipe.spec.features]) == (form != "csv")
    assert len(pack(Encoder.fit(recipe.spec, recipe.train), recipe.test, {"rating": Scale()})) == len(recipe.test)


def test_movielens_says_what_it_looks_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of ratings\.csv, ratings\.dat, u\.data"):
        movielens.load(tmp_path)
    (tmp_path / "ratings.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="cannot be read"):
        movielens.load(tmp_path)
