"""The offline verbs in a row on a small world, and what each says to wrong input: one line, exit 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from workflow.cli import main

TINY = "{n_experts: 2, hidden: [16]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log, a trained ranker and its scores on the later rows."""
    root = tmp_path_factory.mktemp("verbs")
    simulate = ["simulate", "--users", "300", "--days", "8", "--out", str(root / "world"), "--seed", "3"]
    assert main([*simulate, "--set", "n_items=400", "--set", "n_candidates=30"]) == 0
    assert main(train_arguments(root)) == 0
    score = ["score", "--data", str(root / "world"), "--ranker", "ranker/tiny", "--artefacts", str(root / "artefacts")]
    assert main([*score, "--tasks", "click,like,watch_s", "--out", str(root / "scored.parquet")]) == 0
    return root


def train_arguments(root: Path, artefacts: str = "artefacts") -> list[str]:
    where = ["--data", str(root / "world"), "--artefacts", str(root / artefacts), "--tasks", "click,like,watch_s"]
    return ["train", *where, "--name", "tiny", "--epochs", "3", "--learning-rate", "0.005", "--options", TINY, "--threads", "1"]


def search_arguments(root: Path) -> list[str]:
    where = ["--log", str(root / "scored.parquet"), "--ranker", "ranker/tiny", "--artefacts", str(root / "artefacts")]
    return ["search", *where, "--gains", "{click: 1, like: 5}", "--trials", "32", "--searcher", "sobol"]


def test_scores_stand_beside_the_log(world: Path) -> None:
    scored = LoggedDataset.from_parquet(world / "scored.parquet")
    logged = {name for name in scored if name.startswith("score_")}
    assert logged == {"score_click", "score_like", "score_watch_s"}
    assert np.all((scored["score_click"] > 0) & (scored["score_click"] < 1))


def test_cross_fitted_scores_differ_from_in_sample_ones_and_cover_the_later_days(world: Path) -> None:
    where = ["--data", str(world / "world"), "--artefacts", str(world / "artefacts"), "--tasks", "click,like,watch_s"]
    out = world / "crossfit.parquet"
    assert main(["score", *where, "--ranker", "ranker/tiny", "--cross-fit", "--refit", "6", "--out", str(out)]) == 0
    scored, everything = LoggedDataset.from_parquet(out), LoggedDataset.from_parquet(world / "world" / "log.parquet")
    day = everything["time_ms"] // 86_400_000
    assert len(scored) == np.sum(day >= np.unique(day)[2])


def test_training_again_makes_the_same_weights_and_a_report(world: Path) -> None:
    assert main([*train_arguments(world, "again"), "--report", str(world / "report")]) == 0
    assert (world / "report" / "report.html").stat().st_size > 1000
    first, second = (ArtefactStore(world / root).load("ranker", "tiny") for root in ("artefacts", "again"))
    assert first.manifest["files"] == second.manifest["files"]
    assert first.manifest["data_fingerprint"] == second.manifest["data_fingerprint"]


def test_search_publishes_the_choice_and_its_control(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*search_arguments(world), "--out", str(world / "search")]) == 0
    assert "gain over hand_set on later days" in capsys.readouterr().out
    store = ArtefactStore(world / "artefacts")
    for name in ("searched", "hand_set"):
        assert store.load("strategy", name).manifest["parents"] == {"ranker": "ranker/tiny/v1"}
    result = json.loads((world / "search" / "result.json").read_text())
    assert result["value_search"] >= result["random200"]["search"] - 0.05
    assert len(LoggedDataset.from_parquet(world / "search" / "trials.parquet")) == 32
    assert set(result["gains_heldout"]) == {"mtf_gauc", "gauc_click", "gauc_like"}
    assert result["directions"]["click"] in ("up", "constant")
    assert "Pareto front" in (world / "search" / "report.html").read_text()[-200_000:]


def test_search_finds_weights_by_segment_over_calibrations_by_scenario(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = LoggedDataset.from_parquet(world / "scored.parquet")
    _, user = np.unique(scored["user_id"].astype(str), return_inverse=True)
    cohort = np.array(["old", "new"], dtype=object)[user % 2]
    page = np.where(user % 3 == 0, "search", "feed").astype(object)
    scored.with_columns({"cohort": cohort, "scenario": page}).to_parquet(world / "segments.parquet")
    where = ["--log", str(world / "segments.parquet"), "--out", str(world / "segments"), "--name", "by_cohort", "--by", "cohort"]
    where += ["--min-users", "20"]
    more = ["--calibrate-by-scenario", "--objective", "ndcg", "--k", "5", "--guardrails", "{ndcg5_click: 0.2}"]
    assert main([*search_arguments(world), *where, *more]) == 0
    assert "2 segments of cohort; gain over one set of weights on later days" in capsys.readouterr().out
    artefact = ArtefactStore(world / "artefacts").load("strategy", "by_cohort")
    assert artefact.config["strategy"] == "segmented_formula"
    assert set(artefact.config["segments"]) == {"old", "new"}
    assert any("@feed" in name for name in artefact.config["calibration"])
    assert (world / "segments" / "segments.html").exists()
    assert main([*search_arguments(world), "--by", "nope"]) == 2
    assert "no column 'nope'" in capsys.readouterr().err


def test_evaluate_writes_what_it_prints(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(world / "world"), "--artefacts", str(world / "artefacts"), "--tasks", "click,like,watch_s"]
    assert main(["evaluate", *where, "--ranker", "ranker/tiny/v1", "--json", str(world / "metrics.json")]) == 0
    metrics = json.loads((world / "metrics.json").read_text())["metrics"]
    assert f"{metrics['click']['auc']:.4f}" in capsys.readouterr().out
    assert metrics["click"]["auc"] > 0.52  # a tiny model on a tiny world still learns something


def test_evaluate_tells_scenarios_and_calibration(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data", str(world / "world"), "--artefacts", str(world / "artefacts"), "--tasks", "click,like,watch_s"]
    assert main(["evaluate", *where, "--ranker", "ranker/tiny/v1", "--report", str(world / "judged")]) == 0
    value = json.loads((world / "judged" / "evaluation.json").read_text())
    rows = sum(tasks["click"]["n"] for tasks in value["scenarios"].values())
    assert rows == value["metrics"]["click"]["n"]
    curve = value["calibration"]["click"]
    assert sum(curve["n"]) == rows
    assert curve["predicted"] == sorted(curve["predicted"])
    page = (world / "judged" / "evaluation.html").read_text()
    assert all(f"<h2>{heading}</h2>" in page for heading in ("Metrics", "Calibration"))
    assert ("scenario  task" in capsys.readouterr().out) == (len(value["scenarios"]) > 1)


def test_a_daily_update_goes_on_from_the_artefact(world: Path) -> None:
    assert (
        main([*train_arguments(world)[:-4], "--threads", "1", "--name", "daily", "--from", "ranker/tiny/v1", "--epochs", "1"])
        == 0
    )
    store = ArtefactStore(world / "artefacts")
    made, before = store.load("ranker", "daily"), store.load("ranker", "tiny", "v1")
    assert made.manifest["parents"] == {"start": "ranker/tiny/v1"}
    assert made.config["options"] == before.config["options"]
    assert made.config["train"] == {**before.config["train"], "epochs": 1}


def test_a_ranker_as_a_graph(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["publish", "--artefacts", str(world / "artefacts"), "--ranker", "ranker/tiny/v1", "--export"]
    assert main([*where, str(world / "tiny.onnx")]) == 0
    assert "of the ranker in onnxruntime" in capsys.readouterr().out
    assert (world / "tiny.onnx").stat().st_size > 1000
    assert main([*where, str(world / "tiny.pb")]) == 2
    assert "must end in .onnx or .pt2" in capsys.readouterr().err


def test_publish_then_list(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--artefacts", str(world / "artefacts")]
    formula = ["--formula", "a * click + b * like", "--weights", "{a: 1, b: 20}", "--ranker", "ranker/tiny/v1"]
    assert main(["publish", *where, "--name", "mine", *formula]) == 0
    assert main(["publish", *where, "--list"]) == 0
    assert "strategy/mine/v1" in capsys.readouterr().out


def empty_log(root: Path) -> list[str]:
    folder = root / "empty"
    folder.mkdir(exist_ok=True)
    for name in ("items.parquet", "users.parquet", "world.json"):
        (folder / name).write_bytes((root / "world" / name).read_bytes())
    LoggedDataset.from_parquet(root / "world" / "log.parquet").take(np.zeros(0, np.int64)).to_parquet(folder / "log.parquet")
    return ["train", "--data", str(folder), "--artefacts", str(root / "none")]


def one_class(root: Path) -> list[str]:
    empty_log(root)
    log = LoggedDataset.from_parquet(root / "world" / "log.parquet")
    log.with_columns({"like": np.zeros(len(log))}).to_parquet(root / "empty" / "log.parquet")
    return ["train", "--data", str(root / "empty"), "--tasks", "click,like", "--artefacts", str(root / "none")]


def label_among_features(root: Path) -> list[str]:
    spec = root / "leak.yaml"
    spec.write_text("{tasks: [{name: click}], features: [{name: item_id}, {name: click, kind: dense}]}")
    log = str(root / "world" / "log.parquet")
    return ["train", "--recipe", "log", "--data", log, "--spec", str(spec), "--artefacts", str(root / "none")]


def plain_log(root: Path, spec: str, name: str = "spec.yaml", **columns: object) -> list[str]:
    """The options of recipe log, on the world's log with some columns changed."""
    log = LoggedDataset.from_parquet(root / "world" / "log.parquet")
    log.with_columns({n: np.asarray(c) for n, c in columns.items()}).to_parquet(root / "changed.parquet")
    (root / name).write_text(spec)
    return ["--recipe", "log", "--data", str(root / "changed.parquet"), "--spec", str(root / name)]


def nan_feature(root: Path) -> list[str]:
    n = len(LoggedDataset.from_parquet(root / "world" / "log.parquet"))
    price = np.where(np.arange(n) == n // 2, np.nan, 1.0 * np.arange(n))
    spec = "{tasks: [{name: click}], features: [{name: item_id}, {name: price, kind: dense}]}"
    return ["train", *plain_log(root, spec, price=price), "--artefacts", str(root / "none")]


def id_beyond_the_vocabulary(root: Path) -> list[str]:
    spec = "{tasks: [{name: click}], features: [{name: item_id, vocabulary: range, size: 100}]}"
    return ["train", *plain_log(root, spec), "--artefacts", str(root / "none")]


def changed_spec(root: Path) -> list[str]:
    spec = "{tasks: [{name: click}], features: [{name: item_id}]}"
    return ["evaluate", *plain_log(root, spec), "--ranker", "ranker/tiny/v1", "--artefacts", str(root / "artefacts")]


def update_with_a_changed_spec(root: Path) -> list[str]:
    spec = "{tasks: [{name: click}], features: [{name: item_id}]}"
    return ["train", *plain_log(root, spec), "--from", "ranker/tiny/v1", "--artefacts", str(root / "artefacts")]


def no_positive_in_validation(root: Path) -> list[str]:
    log = LoggedDataset.from_parquet(root / "world" / "log.parquet")
    late = np.asarray(log["time_ms"]) > np.quantile(log["time_ms"], 0.7)
    spec = "{tasks: [{name: click}, {name: like}], features: [{name: item_id}]}"
    return ["train", *plain_log(root, spec, like=np.where(late, 0, log["like"])), "--artefacts", str(root / "none")]


def unknown_formula_name(root: Path) -> list[str]:
    return [*search_arguments(root), "--formula", "a * clicks", "--params", "{a: [0, 1]}", "--artefacts", str(root / "artefacts")]


def corrupt_artefact(root: Path) -> list[str]:
    made = ArtefactStore(root / "artefacts").load("ranker", "tiny", "v1")
    target = root / "corrupt" / "ranker" / "tiny" / "v1"
    target.mkdir(parents=True, exist_ok=True)
    for file in made.path.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    (target / "weights.safetensors").write_bytes(b"no weights")
    where = ["--data", str(root / "world"), "--artefacts", str(root / "corrupt")]
    return ["score", *where, "--ranker", "ranker/tiny", "--out", str(root / "none" / "scored.parquet")]


Case = Callable[[Path], list[str]]
WRONG: dict[Case, str] = {
    empty_log: "empty",
    one_class: "like",
    no_positive_in_validation: "task 'like' has one class only, label 0 in all",
    label_among_features: "label among the features",
    nan_feature: "feature 'price' is NaN in row",
    id_beyond_the_vocabulary: "beyond its vocabulary 0..99",
    changed_spec: "which the feature spec no longer has",
    update_with_a_changed_spec: "which the feature spec no longer has",
    unknown_formula_name: "'clicks'",
    corrupt_artefact: "damaged",
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.__name__)
def test_wrong_input_is_one_clear_line(world: Path, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    published = sorted((world / "artefacts").rglob("manifest.json"))
    arguments = case(world)
    capsys.readouterr()
    assert main(arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("scorefusion: ")]
    assert len(errors) == 1
    assert WRONG[case] in errors[0]
    assert not (world / "none").exists()
    assert sorted((world / "artefacts").rglob("manifest.json")) == published
