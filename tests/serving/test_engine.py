"""The engine: right pages from known scores, and a page whatever breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.events import Request
from core.scores import ScoreTable
from serving.engine import Engine
from serving.release import Release
from serving.rules import Rules
from serving.stages import FIRST_TASK, UPSTREAM
from tests.serving.fakes import By, Entry, Failing, release


def ask(*ids: int, page_size: int = 10, user: str = "u", **more: Any) -> Request:
    return Request("r1", user, np.array(ids), page_size=page_size, **more)


def items(engine: Engine, request: Request) -> list[int]:
    ids: list[int] = engine.rank(request).items.tolist()
    return ids


def test_best_first_and_no_more_than_a_page() -> None:
    slate = Engine(release()).rank(ask(5, 900, 30, 500, page_size=3))
    assert slate.items.tolist() == [900, 500, 30]
    assert slate.final.tolist() == pytest.approx([0.9, 0.5, 0.03])
    assert slate.scores["like"].tolist() == pytest.approx([0.1, 0.5, 0.97])
    assert (slate.strategy, slate.degraded, slate.propensity) == ("by_click", None, 1.0)


def test_ties_keep_the_upstream_order() -> None:
    class Constant(By):
        def fuse(self, scores: ScoreTable, context: Mapping[str, Any]) -> Any:
            return super().fuse(scores, context)._replace(final=np.zeros(len(scores)))

    engine = Engine(release(flat=Constant("click")), assign=lambda r: {"l": Entry("x", "b", "flat", "u")})
    assert items(engine, ask(7, 3, 9)) == [7, 3, 9]


def test_the_bucket_chooses_the_strategy() -> None:
    engine = Engine(release(), assign=lambda r: {"layer": Entry("x", "treatment", "by_like", r.user_id)})
    slate = engine.rank(ask(5, 900))
    assert (slate.items.tolist(), slate.strategy, slate.buckets) == ([5, 900], "by_like", {"layer": "treatment"})


def test_inline_features_go_before_the_tables() -> None:
    assert items(Engine(release()), ask(1, 2, features={"score": np.array([0.1, 0.9])})) == [2, 1]


@pytest.mark.parametrize("how", ["raises", "nan", "shape"])
def test_a_failing_strategy_falls_back_to_the_default_formula(how: str) -> None:
    engine = Engine(release(bad=Failing(how)), assign=lambda r: {"l": Entry("x", "b", "bad", "u")})
    slate = engine.rank(ask(5, 900))
    assert (slate.items.tolist(), slate.strategy) == ([900, 5], "by_click")
    assert slate.degraded is not None
    assert slate.degraded.startswith("bad:")


def test_the_ladder_goes_from_policy_to_learned_to_formula_to_first_task_to_upstream() -> None:
    made = release(policy=Failing("nan"), learned=By("like"))
    assert made.ladder("policy") == ("policy", "learned", "by_click", "by_like")
    assert made.ladder("learned") == ("learned", "by_click", "by_like")
    assert made.ladder("by_like") == ("by_like", "by_click")
    assert made.ladder("no such") == ("by_click",)
    engine = Engine(made, assign=lambda r: {"l": Entry("x", "b", "policy", "u")})
    assert engine.rank(ask(5, 900)).strategy == "learned"
    broken = release(by_click=Failing("raises"), by_like=Failing("nan"))
    slate = Engine(broken).rank(ask(5, 900))
    assert (slate.strategy, slate.items.tolist()) == (FIRST_TASK, [900, 5])
    assert math.isnan(slate.propensity)


def _break_ranker(made: Release) -> None:
    made.ranker.broken = RuntimeError()  # type: ignore[attr-defined]  # the fake's switch


def _break_features(made: Release) -> None:
    made.features.broken = TimeoutError()  # type: ignore[attr-defined]  # the fake's switch


@pytest.mark.parametrize(
    ("breaks", "reason"), [(_break_ranker, "ranker:RuntimeError"), (_break_features, "features:TimeoutError")]
)
def test_without_scores_the_upstream_order_is_shown(breaks: Callable[[Release], None], reason: str) -> None:
    made = release()
    breaks(made)
    slate = Engine(made).rank(ask(5, 900, 7, page_size=2))
    assert (slate.items.tolist(), slate.strategy, slate.degraded) == ([5, 900], UPSTREAM, reason)


def test_only_what_was_scored_is_ranked_above_the_rest() -> None:
    made = release()
    made.ranker.nan = frozenset([900, 950])  # type: ignore[attr-defined]  # the fake's switch
    slate = Engine(made).rank(ask(900, 5, 950, 7))
    assert slate.items.tolist() == [7, 5, 900, 950]
    assert slate.degraded == "scores:partial"
    assert np.isnan(slate.final).tolist() == [False, False, True, True]
    made.ranker.nan = frozenset([900, 5])  # type: ignore[attr-defined]  # the fake's switch
    assert Engine(made).rank(ask(900, 5)).strategy == UPSTREAM


def test_a_late_request_is_not_scored() -> None:
    times = iter([0.0, 0.0, 9.0, 9.0, 9.0, 9.0])
    slate = Engine(release(), deadline_ms=50, clock=lambda: next(times)).rank(ask(5, 900))
    assert (slate.items.tolist(), slate.degraded) == ([5, 900], "deadline")


def test_a_failing_assignment_serves_the_default() -> None:
    def fails(request: Request) -> Any:
        raise KeyError("plan")

    slate = Engine(release(), assign=fails).rank(ask(5, 900))
    assert (slate.items.tolist(), slate.degraded, slate.buckets) == ([900, 5], "assign:KeyError", {})


def test_unknown_items_and_users_are_counted() -> None:
    ranked = Engine(release()).run(ask(5, 2000, 3000, user="stranger"))
    assert (ranked.n_unknown_items, ranked.unknown_user) == (2, True)


def test_a_rule_that_changes_the_page_makes_the_propensity_unknown() -> None:
    rules = Rules.parse([{"kind": "block", "column": "id", "values": [900]}], lambda column, ids: ids)
    engine = Engine(release(), rules=rules)
    changed, unchanged = engine.rank(ask(5, 900, 30)), engine.rank(ask(5, 30))
    assert (changed.items.tolist(), math.isnan(changed.propensity)) == ([30, 5], True)
    assert unchanged.propensity == 1.0


def test_a_failing_rule_is_left_out_and_said() -> None:
    def fails(column: str, ids: Any) -> Any:
        raise KeyError(column)

    slate = Engine(release(), rules=Rules.parse([{"kind": "block", "column": "x", "values": []}], fails)).rank(ask(5, 900))
    assert (slate.items.tolist(), slate.degraded) == ([900, 5], "rules:KeyError")


def test_a_release_is_swapped_by_one_reference() -> None:
    engine = Engine(release())
    other = release(by_click=By("like"))
    old = engine.use(other)
    assert items(engine, ask(5, 900)) == [5, 900]
    engine.use(old)
    assert items(engine, ask(5, 900)) == [900, 5]


def test_a_release_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs task 'buy'; the ranker scores click, like"):
        release(bad=By("buy"))


@given(st.lists(st.integers(0, 999), min_size=1, max_size=30, unique=True), st.integers(1, 40), st.randoms())
def test_permuting_candidates_changes_nothing(ids: list[int], page_size: int, random: Any) -> None:
    engine = Engine(release())
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert items(engine, ask(*ids, page_size=page_size)) == items(engine, ask(*shuffled, page_size=page_size))


def test_an_explanation_names_each_tasks_part() -> None:
    engine = Engine(release())
    shown = engine.explain(engine.run(ask(5, 900)))
    assert shown is not None
    assert [part["click"] for part in shown] == pytest.approx([0.9, 0.005])
