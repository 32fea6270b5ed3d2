"""The trainer: better than any one score on fresh users, the same after a kill, distilled, and clear about what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.arrays import average_ranks
from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError
from core.scores import ScoreTable
from fusion.checks import CHECKS, Check
from fusion.formula import Formula
from fusion.learned import fit
from fusion.learned.fit import learn
from fusion.learned.judge import judged
from fusion.learned.rows import final_scores
from fusion.search import Objective, gauc, mtf_gauc
from fusion.search.bootstrap import interval, user_draws
from fusion.strategy import FormulaStrategy, load_strategy, publish
from tests.fusion.learned.made import FRESH, GAINS, LOG, LOG_SUM, NAMES, SMALL, TASKS, VALID, made

OBJECTIVE = Objective([mtf_gauc(GAINS), gauc("click", 0.0)])
SCORES = ScoreTable(TASKS.names, np.random.default_rng(1).random((12, 3)))
CONTEXT = {"hour": 13.0}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_learned_keeps(name: str, check: Check) -> None:
    check(made(name).strategy, SCORES, CONTEXT, TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_better_than_any_one_score_on_fresh_users(name: str) -> None:
    single = [FormulaStrategy(Formula.parse(task, tasks=TASKS.names), {}) for task in ("click", "like")]
    best = max(judged(strategy, FRESH, OBJECTIVE).value for strategy in single)
    assert judged(made(name).strategy, FRESH, OBJECTIVE).value > best + 0.005


def test_a_student_of_two_teachers_ranks_like_their_mean() -> None:
    student = made("student").strategy
    finals = [final_scores(s, FRESH) for s in (LOG_SUM, made("monotone").strategy, student)]
    mean = (finals[0] - finals[0].mean()) / finals[0].std() + (finals[1] - finals[1].mean()) / finals[1].std()
    ranks = [average_ranks(values) for values in (mean, finals[2])]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.97


@pytest.mark.parametrize("name", NAMES)
def test_published_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    strategy = made(name).strategy
    artefact = publish(ArtefactStore(tmp_path), "learned", strategy)
    assert {file.suffix for file in artefact.path.iterdir()} == {".json", ".safetensors"}
    loaded = load_strategy(artefact)
    np.testing.assert_array_equal(loaded.fuse(SCORES, CONTEXT).final, strategy.fuse(SCORES, CONTEXT).final)
    np.testing.assert_array_equal(final_scores(loaded, FRESH), final_scores(strategy, FRESH))


@pytest.mark.parametrize(("kind", "options"), [("lambdamart", SMALL), ("monotone", {"steps_a_round": 8, "batch": 128})])
def test_killed_after_any_round_it_ends_the_same(
    kind: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path | None) -> fit.Learned:
        return learn(
            kind, LOG, VALID, tasks=TASKS, gains=GAINS, options=options, max_rounds=4, folder=folder, progress=False
        )  # fmt: skip

    whole = run(None)
    stop_after = {"left": 2}
    save = fit._Kept.save

    def save_then_die(self: fit._Kept, *args: Any) -> None:
        save(self, *args)
        stop_after["left"] -= 1
        if not stop_after["left"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit._Kept, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(fit._Kept, "save", save)
    again = run(tmp_path)
    assert again.history == whole.history
    np.testing.assert_array_equal(final_scores(again.strategy, FRESH), final_scores(whole.strategy, FRESH))
    with pytest.raises(ConfigError, match="another folder"):
        learn(kind, LOG, VALID, tasks=TASKS, gains={"click": 1.0}, options=options, folder=tmp_path, progress=False)
    (tmp_path / "learning.state").write_bytes(b"broken")
    with pytest.raises(ArtefactError, match="damaged"):
        run(tmp_path)


def test_it_stops_early_and_keeps_the_best_round() -> None:
    noise = {"n_leaves": 32, "min_rows": 1, "learning_rate": 0.5, "l2": 0.01}
    found = learn("lambdamart", LOG, VALID, tasks=TASKS, gains=GAINS, options=noise, patience=2, progress=False)
    assert len(found.history) == found.best_round + 2
    assert judged(found.strategy, VALID, OBJECTIVE).value == pytest.approx(max(found.history), abs=1e-12)


def test_paired_draws_are_narrower_than_unpaired_ones() -> None:
    a, b = (judged(made(name).strategy, FRESH, OBJECTIVE) for name in ("lambdamart", "monotone"))
    users = user_draws(a.n_users, 200, 0)
    paired = interval(a.draws(users) - b.draws(users))
    apart = interval(a.draws(users) - b.draws(user_draws(a.n_users, 200, 1)))
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)
    np.testing.assert_allclose(a.term_draws(users)["mtf_gauc"], a.draws(users), atol=1e-12)


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "kind": (lambda: _learn("forest"), ConfigError, "'forest' is not one of lambdamart, monotone"),
    "option": (lambda: _learn("monotone", options={"depth": 3}), ConfigError, "no option 'depth'"),
    "value": (lambda: _learn("lambdamart", options={"n_leaves": 64}), ConfigError, "from 2 to 32"),
    "type": (lambda: _learn("lambdamart", options={"n_leaves": "many"}), ConfigError, "must be like 8"),
    "word": (lambda: _learn("monotone", options={"loss": "hinge"}), ConfigError, "choose from pairwise, listwise"),
    "zero": (lambda: _learn("monotone", options={"batch": 0}), ConfigError, "above 0"),
    "rounds": (lambda: _learn("monotone", max_rounds=0), ConfigError, "max_rounds 0"),
    "context": (lambda: _learn("monotone", context=["weather"]), DataError, "'weather'"),
    "doubled": (lambda: _learn("monotone", context=["click"]), ConfigError, "distinct"),
    "flat": (
        lambda: _learn("lambdamart", log=LOG.with_columns({t: np.zeros(len(LOG)) for t in TASKS.names})),
        DataError,
        "nothing to learn",
    ),
    "nan": (
        lambda: _learn("monotone", log=LOG.with_columns({"score_like": np.full(len(LOG), np.nan)})),
        DataError,
        "'score_like' is not finite in 4000 of 4000 rows",
    ),
}


def _learn(kind: str, log: Any = LOG, **more: Any) -> object:
    return learn(kind, log, VALID, **{"tasks": TASKS, "gains": GAINS, "progress": False, "max_rounds": 1, **more})


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said(case: str) -> None:
    call, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        call()
