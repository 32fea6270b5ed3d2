"""The harness keeps its promises: last line JSON, absent figures null, turns interleaved, quick runs never recorded."""

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bench.harness import Bench, Sample, data_folder, interleave, machine, opponent, peer_python, ratio, timed, versions


def test_the_last_line_is_one_json_object_with_every_owed_figure() -> None:
    out = io.StringIO()
    ticks = iter([100.0, 103.25])
    bench = Bench("demo", ["a", "b", "c"], argv=[], out=out, clock=lambda: next(ticks))
    bench.table(["model", "auc"], [["mmoe", 0.91234], ["none", None], ["broken", float("nan")]], title="Quality")
    bench.figure("a", np.float64(1.5))
    bench.figure("b", float("nan"))
    bench.figure("extra", 2)
    bench.note("c", "the peer is not installed")
    bench.finish()
    lines = out.getvalue().splitlines()
    payload = json.loads(lines[-1])
    assert payload["bench"] == "demo"
    assert payload["figures"] == {"a": 1.5, "b": None, "c": None, "extra": 2.0}
    assert payload["seconds"] == 3.2
    assert payload["machine"]["cores"] >= 1
    assert payload["versions"]["numpy"]
    assert "quick" not in payload
    assert lines[-2] == "note: c: the peer is not installed"
    assert "mmoe    0.9123" in lines
    assert "broken       -" in lines


def test_a_record_holds_date_tables_and_notes(tmp_path: Path) -> None:
    bench = Bench("demo", ["a"], argv=["--record"], out=io.StringIO(), results=tmp_path / "results")
    bench.table(["x"], [[1], [float("inf")]])
    bench.finish()
    record = json.loads((tmp_path / "results" / "demo.json").read_text())
    assert record["figures"] == {"a": None}
    assert record["date"].endswith("+00:00")
    assert record["tables"] == [{"title": "", "headers": ["x"], "rows": [[1], [None]]}]


def test_a_quick_run_is_never_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        Bench("demo", argv=["--quick", "--record"], results=tmp_path)
    assert stop.value.code == 2
    assert "drop --quick" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_own_arguments_reach_the_parser() -> None:
    bench = Bench("demo", argv=["--peers", "--work", "w"], arguments=lambda parser: parser.add_argument("--work"))
    assert bench.peers
    assert not bench.quick
    assert bench.args.work == "w"


def test_turns_interleave_and_warmups_are_thrown_away() -> None:
    order: list[str] = []
    values = {"ours": iter([99.0, 1.0, 3.0, 2.0]), "peer": iter([99.0, 4.0, 6.0, 5.0])}

    def contestant(name: str) -> float:
        order.append(name)
        return next(values[name])

    samples = interleave({name: partial(contestant, name) for name in values}, rounds=3, warmups=1)
    assert order == ["ours", "peer"] * 4
    assert samples["ours"] == Sample((1.0, 3.0, 2.0))
    assert (samples["peer"].median, samples["peer"].low, samples["peer"].high) == (5.0, 4.0, 6.0)
    assert ratio(samples["peer"], samples["ours"]) == 2.5
    with pytest.raises(ValueError, match="at least 1"):
        interleave({}, rounds=0)


def test_timed_returns_the_seconds_of_the_work() -> None:
    ticks = iter([1.0, 3.5])
    done: list[int] = []
    assert timed(lambda: done.append(1), clock=lambda: next(ticks))() == 2.5
    assert done == [1]


def test_an_absent_peer_is_no_ratio() -> None:
    assert ratio(Sample((1.0,)), None) is None
    assert ratio(None, Sample((1.0,))) is None
    assert ratio(Sample((1.0,)), Sample((0.0,))) is None


def test_folders_come_from_the_environment_or_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.setenv("SCOREFUSION_DATA", str(tmp_path))
    monkeypatch.setenv("SCOREFUSION_OPPONENTS", str(tmp_path / "absent"))
    assert data_folder("one") == tmp_path / "one"
    assert data_folder() == tmp_path
    assert data_folder("two") is None
    assert opponent("x.py") is None
    assert peer_python("no_such_peer") is None


def test_machine_and_versions_are_plain_json() -> None:
    json.dumps([machine(), versions()], allow_nan=False)
    assert machine()["processor"]
    assert versions(["no-such-package-here"]).keys() == {"python"}
