"""`scorefusion ope` end to end: a simulated log with its truth, the same log read again, a service's event store, bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError, ScorefusionError
from fusion.policy.exploration import Exploration, Gaussian
from simulator.world import World
from tests.workflow.test_transitions import serve
from workflow import ope
from workflow.cli import main, parse

WORLD = ("--world-overrides", "{n_users: 300, n_items: 300, n_candidates: 20}", "--sessions", "300", "--judge-sessions", "300")


def run(*arguments: str) -> str:
    return ope.run(parse("ope", ope, list(arguments)))


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "ope.json").read_text())
    return found


def rows(found: dict[str, Any], status: str) -> Sequence[tuple[str, str]]:
    return [(e["policy"], e["estimator"]) for e in found["estimates"] if e["status"] == status]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ope")
    chosen = ("--policy", "hand_set", "--policy", "{click: 2, watch_s: 1}", "--noise", "0.1")
    said = run("--world", "default", *WORLD, *chosen, "--estimators", "fqe,pdis", "--out", str(out), "--artefacts", str(out))
    assert "of 4 estimates of 2 policies" in said
    return out


def test_a_simulated_log_comes_with_its_truth(simulated: Path) -> None:
    found = read(simulated)
    assert ("hand_set", "fqe") in rows(found, "ok")
    hand = next(e for e in found["estimates"] if (e["policy"], e["estimator"]) == ("hand_set", "fqe"))
    truth = found["truth"]["hand_set"]
    assert hand["low"] < truth["high"]
    assert truth["low"] < hand["high"]
    assert set(found["truth"]) == {"hand_set", "{click: 2, watch_s: 1}"}
    assert all(e["value"] is None for e in found["estimates"] if e["status"] != "ok")


def test_its_pages_are_single_decisions(simulated: Path, tmp_path: Path) -> None:
    arguments = ("--policy", "{click: 2, watch_s: 1}", "--noise", "0.3", "--pages", "--estimators", "dm,ips,snips,fqe")
    run("--log", str(simulated / "log"), *arguments, "--min-effective", "5", "--out", str(tmp_path))
    found = read(tmp_path)
    by_name = {e["estimator"]: e for e in found["estimates"]}
    assert by_name["dm"]["status"] == "ok"
    assert by_name["dm"]["value"] == by_name["fqe"]["value"]
    assert by_name["dm"]["n"] == found["logged"]["n"] > 300, "pages, not sessions"
    assert found["truth"] == {}
    run("--log", str(simulated / "log"), *arguments[:4], "--estimators", "ips", "--judge-sessions", "2", "--out", str(tmp_path))
    assert read(tmp_path)["estimates"][0]["status"] == "many_pages"


def test_cut_sessions_can_be_looked_beyond(tmp_path: Path) -> None:
    cut = ("--world-overrides", "{n_users: 300, n_items: 300, n_candidates: 20, step_limit: 4}", "--sessions", "400")
    chosen = ("--policy", "hand_set", "--noise", "0.1", "--estimators", "fqe_action,slate_rips", "--min-effective", "5")
    run("--world", "default", *cut, *chosen, "--beyond-cuts", "--out", str(tmp_path))
    beyond, weighted = read(tmp_path)["estimates"]
    run("--log", str(tmp_path / "log"), *chosen, "--judge-sessions", "300", "--out", str(tmp_path / "up_to"))
    up_to, of_slates = read(tmp_path / "up_to")["estimates"]
    assert weighted["status"] == "cut_sessions"
    assert of_slates["status"] != "cut_sessions"
    assert beyond["value"] > 1.2 * up_to["value"]


def test_the_page_needs_no_network_and_says_why_something_is_missing(simulated: Path) -> None:
    page = (simulated / "ope.html").read_text()
    assert "too_little_overlap" in page
    assert "Plotly.newPlot" in page
    assert "https://" not in page.split("</script>")[-1]


def test_the_log_it_left_is_evaluated_the_same(simulated: Path, tmp_path: Path) -> None:
    arguments = ("--policy", "hand_set", "--noise", "0.1", "--estimators", "fqe,pdis", "--judge-sessions", "300")
    run("--log", str(simulated / "log"), *arguments, "--out", str(tmp_path))
    first, again = read(simulated)["estimates"][:2], read(tmp_path)["estimates"]
    for before, after in zip(first, again, strict=True):
        assert before["status"] == after["status"]
        assert (before["value"] or 0.0) == pytest.approx(after["value"] or 0.0, rel=1e-6)


def test_a_services_store_is_evaluated(tmp_path: Path) -> None:
    world = World.make("default", n_users=40, n_items=300, n_candidates=12)
    logged = serve(world, tmp_path, Exploration({"wide": (1.0, Gaussian(0.3))}))
    logged.store.close()
    source = ("--log", logged.url, "--logging", "strategy/explore", "--artefacts", str(tmp_path / "artefacts"))
    reward = ("--reward", "{act: {click: 0.3, like: 1.0}, stay: {watch_s: 0.01}}")
    policies = ("--policy", "strategy/explore", "--policy", "hand_set", "--policy", "{w_like: 0.5}")
    run(*source, *reward, *policies, "--estimators", "fqe,pdis,is", "--min-effective", "20", "--out", str(tmp_path / "out"))
    found = read(tmp_path / "out")
    own = {e["estimator"]: e for e in found["estimates"] if e["policy"] == "strategy/explore"}
    # the policy that explored, with its own exploration: every ratio is 1 and PDIS is what was logged
    assert own["pdis"]["status"] == "ok"
    assert own["pdis"]["value"] == pytest.approx(found["logged"]["value"], rel=1e-3)
    assert own["pdis"]["effective"] == pytest.approx(found["logged"]["n"], rel=1e-3)
    assert own["fqe"]["reach"] < 1.2
    assert ("hand_set", "pdis") in rows(found, "no_density")
    assert found["truth"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --log"),
        (("--world", "default"), "--policy is missing"),
        (("--world", "default", "--policy", "hand_set", "--estimators", "magic"), "choose from fqe"),
        (("--log", "nowhere", "--policy", "hand_set"), "no folder and no event store"),
        (("--log", "duckdb:///x.duckdb", "--policy", "hand_set"), "needs --logging"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ope", *arguments, "--out", str(tmp_path), "--artefacts", str(tmp_path)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("scorefusion: ")
    assert message in line


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("{stars: 1}", "unknown weight 'w_stars'"),
        ("{click: -1}", "wrong sign"),
        ("strategy/none", "no strategy named 'none'"),
    ],
)
def test_a_policy_that_cannot_be_is_named(policy: str, message: str, simulated: Path, tmp_path: Path) -> None:
    log = ("--log", str(simulated / "log"), "--artefacts", str(tmp_path), "--out", str(tmp_path))
    with pytest.raises(ScorefusionError, match=message):
        run(*log, "--policy", policy)


def test_a_policy_for_other_tasks_is_refused(simulated: Path, tmp_path: Path) -> None:
    from core.artefacts import ArtefactStore
    from fusion.formula import Formula
    from fusion.strategy import FormulaStrategy, publish

    other = FormulaStrategy(Formula.parse("w_buy * purchase", tasks=["purchase"], params=["w_buy"]), {"w_buy": 1.0})
    publish(ArtefactStore(tmp_path), "other", other)
    log = ("--log", str(simulated / "log"), "--judge-sessions", "100", "--artefacts", str(tmp_path))
    run(*log, "--policy", "strategy/other", "--estimators", "fqe,is", "--out", str(tmp_path / "out"))
    assert rows(read(tmp_path / "out"), "other_tasks") == [("strategy/other", "fqe"), ("strategy/other", "is")]
    with pytest.raises(ConfigError, match="sessions must be at least 2"):
        run("--world", "default", "--sessions", "1", "--policy", "hand_set", "--out", str(tmp_path))
