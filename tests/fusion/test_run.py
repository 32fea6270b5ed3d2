"""Search end to end: truth recovered, guardrails kept, killed searches resumed to the same result, all searchers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from core.artefacts import ArtefactStore
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion.calibrate import fit
from fusion.formula import Formula
from fusion.formula.families import family
from fusion.search import SEARCHERS, Guardrail, Objective, Param, SearchResult, Space, gauc, ndcg, search, split_days, write
from fusion.strategy import load_strategy, publish
from tests.fusion.conftest import make_log

TASK_SET = TaskSet([TaskSpec("click"), TaskSpec("like"), TaskSpec("hate", goal="down")])
FORMULA = Formula.parse("u * click + v * like", tasks=["click", "like"], params=["u", "v"])
SPACE = Space([Param("u"), Param("v")], scale_free=[["u", "v"]])
OBJECTIVE = Objective([gauc("click", 0.5), gauc("like", 0.5)])
HAND_SET = {"click": 1.0, "like": 1.0}


def run(log: LoggedDataset, searcher: str = "sobol", n_trials: int = 64, **kwargs: object) -> SearchResult:
    before, after = split_days(log, "date")
    settings: dict[str, object] = {"space": SPACE, "objective": OBJECTIVE, "hand_set": HAND_SET, "progress": False, "n_draws": 50}
    settings |= kwargs
    return search(FORMULA, before, after, searcher=searcher, n_trials=n_trials, **settings)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("searcher", sorted(set(SEARCHERS) - {"gp"}))
def test_every_searcher_comes_near_the_best_of_a_fine_grid(searcher: str, log: LoggedDataset) -> None:
    best = run(log, "grid", n_trials=900).value_search
    result = run(log, searcher, n_trials=150)
    assert result.value_search > best - 0.002
    assert sum(map(abs, result.weights.values())) == pytest.approx(1.0)
    again = run(log, searcher, n_trials=150)
    np.testing.assert_array_equal(result.vectors, again.vectors)


def test_gaussian_process_runs(log: LoggedDataset) -> None:
    assert run(log, "gp", n_trials=21).value_search > 0.5


def test_the_result_says_everything(log: LoggedDataset, tmp_path: Path) -> None:
    calibration = fit(split_days(log)[0], TASK_SET)
    result = run(log, calibration=calibration)
    low, high = result.value_heldout_interval
    assert low < result.value_heldout < high
    assert result.hand_set.value_search <= result.random200.value_search + 1e-3
    low, high = result.gain_heldout_interval
    assert low <= result.gain_heldout <= high
    assert all(pair.low <= pair.high for pair in result.weight_intervals.values())
    folder = write(result, tmp_path)
    trials = pq.read_table(folder / "trials.parquet")
    assert trials.num_rows == 64
    assert {"param_u", "value", "term_gauc_click", "violation", "on_front"} <= set(trials.column_names)
    assert "plotly" in (folder / "report.html").read_text()[:20000].lower()
    published = publish(ArtefactStore(tmp_path / "store"), "searched", result.strategy, search=result.summary())
    scores = ScoreTable(("click", "like"), np.array([[0.3, 0.2], [0.5, 0.1]]))
    np.testing.assert_array_equal(load_strategy(published).fuse(scores).final, result.strategy.fuse(scores).final)


def test_two_runs_have_one_front_and_it_is_not_beaten(log: LoggedDataset) -> None:
    result = run(log, "nsga2", n_trials=100)
    front, terms = result.front, result.terms
    for row in np.flatnonzero(front):
        assert not ((terms >= terms[row]).all(axis=1) & (terms > terms[row]).any(axis=1)).any()
    assert front.any()


def test_guardrails_bind(log: LoggedDataset) -> None:
    objective = Objective([gauc("like", 1.0), gauc("click", 0.0)])
    free = run(log, objective=objective)
    guarded = run(log, objective=objective, guardrails=[Guardrail("gauc_click", 0.01)])
    control = run(log, objective=Objective([gauc("click")])).hand_set.value_search
    assert free.terms_search["gauc_click"] < 0.99 * control
    assert guarded.terms_search["gauc_click"] >= 0.99 * control
    assert guarded.status == "ok"
    impossible = run(
        log, "grid", space=Space([Param("u", 0, 0.01), Param("v", 0.99, 1)]), guardrails=[Guardrail("gauc_click", 0.0)]
    )
    assert impossible.status == "no_trial_keeps_the_guardrails"


@pytest.mark.parametrize("searcher", ["cem", "tpe", "de"])
def test_a_killed_search_resumes_to_the_same_result(searcher: str, log: LoggedDataset, tmp_path: Path) -> None:
    whole = run(log, searcher, n_trials=80, batch=16, folder=tmp_path / "whole")
    lines = (tmp_path / "whole" / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "trials.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:40])  # killed in the middle of a line
    resumed = run(log, searcher, n_trials=80, batch=16, folder=tmp_path / "cut")
    np.testing.assert_array_equal(resumed.values, whole.values)
    assert resumed.summary() == whole.summary()
    with pytest.raises(ConfigError, match="another search"):
        run(log, searcher, n_trials=90, batch=16, folder=tmp_path / "cut")


def test_the_gain_over_pure_noise_is_not_believed() -> None:
    """Labels that no score knows: whatever wins on the search days, the later day's interval holds no gain."""
    log = make_log(6000, seed=5)
    rng = np.random.default_rng(9)
    noise = log.with_columns({label: rng.permutation(log[label]) for label in ("click", "like")})
    result = run(noise, n_draws=100)
    assert result.value_search > 0.5
    assert result.gain_heldout_interval.low < 0


def test_misfits_are_refused(log: LoggedDataset) -> None:
    with pytest.raises(ConfigError, match="unknown searcher"):
        run(log, "annealing")
    with pytest.raises(ConfigError, match="make them equal"):
        run(log, space=Space([Param("u")]))
    before, after = split_days(log)
    f = family("log_sum", TASK_SET)
    space = Space([Param(n, *r) for n, r in f.ranges.items()], f.scale_free)
    with pytest.raises(ConfigError, match="at most 3"):
        search(f.formula, before, after, space=space, objective=OBJECTIVE, hand_set=HAND_SET, searcher="grid", progress=False)
    biased = Formula.parse("log(click + u) + v * like", tasks=["click", "like"], params=["u", "v"])
    with pytest.raises(ConfigError, match="changes the ranking"):
        search(biased, before, after, space=SPACE, objective=OBJECTIVE, hand_set=HAND_SET, progress=False)
    with pytest.raises(ConfigError, match="guardrail on 'nope'"):
        run(log, guardrails=[Guardrail("nope")])


def test_ranks_and_requests_are_searched_too(log: LoggedDataset) -> None:
    before, after = split_days(log)
    f = family("rank_sum", TASK_SET)
    space = Space([Param(n, *r) for n, r in f.ranges.items()], f.scale_free)
    result = search(
        f.formula,
        before,
        after,
        space=space,
        objective=Objective([ndcg("click", 3)]),
        hand_set=HAND_SET,
        n_trials=64,
        progress=False,
        n_draws=30,
    )
    assert result.value_heldout > 0.5
