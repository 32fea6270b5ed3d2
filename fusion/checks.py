"""The contract every fusion strategy keeps; each check raises AssertionError with what was broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from core.errors import ScorefusionError
from core.scores import ScoreTable
from core.tasks import TaskSet
from fusion.fused import FusionStrategy

Check = Callable[[FusionStrategy, ScoreTable, Mapping[str, Any], TaskSet], None]
_CLOSE: Final = 1e-9  # relative; a sum may be taken in another order


def one_finite_score_an_item(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """`final` is `[n_items]` float64 and finite, also for one item and for none."""
    for n in (len(scores), 1, 0):
        final = strategy.fuse(scores.take(np.arange(n)), context).final
        assert final.shape == (n,), f"{n} items got final scores of shape {final.shape}"
        assert final.dtype == np.float64, f"final scores are {final.dtype}, not float64"
        assert np.isfinite(final).all(), "final scores are not finite"


def deterministic(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """The same question twice has one answer, and other questions between do not change it."""
    first = strategy.fuse(scores, context).final
    strategy.fuse(scores.take(np.arange(min(2, len(scores)))), context)
    assert np.array_equal(first, strategy.fuse(scores, context).final), "the second answer differs from the first"


def changes_nothing(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """Scores and context are as before."""
    values, before = scores.values.copy(), dict(context)
    strategy.fuse(scores, context)
    assert np.array_equal(values, scores.values), "fuse changed the scores it was given"
    assert before == dict(context), "fuse changed the context it was given"


def follows_the_items(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """Candidates in another order get the same final scores in that order."""
    order = np.random.default_rng(0).permutation(len(scores))
    straight, turned = strategy.fuse(scores, context).final, strategy.fuse(scores.take(order), context).final
    assert _close(straight[order], turned), "an item's final score depends on its place among the candidates"


def reads_what_it_requires(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """Tasks beyond `requires` and their order play no part; without a required one it is a scorefusion error."""
    own = tuple(sorted(strategy.requires, reverse=True))
    assert own, "requires is empty"
    alone = ScoreTable(own, np.stack([scores[task] for task in own], axis=1), scores.user_values)
    assert _close(strategy.fuse(scores, context).final, strategy.fuse(alone, context).final), "a task beyond `requires` is read"
    short = ScoreTable(own[1:], alone.values[:, 1:])
    try:
        strategy.fuse(short, context)
    except ScorefusionError:
        return
    raise AssertionError(f"without required task {own[0]!r} there is no error")


def survives_pickling(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """A copy in another process answers the same."""
    copy = pickle.loads(pickle.dumps(strategy))
    assert np.array_equal(strategy.fuse(scores, context).final, copy.fuse(scores, context).final), "the pickled copy differs"


def says_what_it_used(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """Weights are finite numbers by name; the propensity is above 0 or unknown."""
    fused = strategy.fuse(scores, context)
    assert all(isinstance(name, str) and np.isfinite(value) for name, value in fused.weights.items()), "weights are not finite"
    assert np.isnan(fused.propensity) or fused.propensity > 0, f"propensity {fused.propensity} is not above 0"


def moves_with_the_goals(strategy: FusionStrategy, scores: ScoreTable, context: Mapping[str, Any], tasks: TaskSet) -> None:
    """Raising an `up` score of an item never lowers its final score; raising a `down` score never lifts it."""
    before = strategy.fuse(scores, context).final
    rng = np.random.default_rng(0)
    for task in sorted(strategy.requires):
        column = scores.tasks.index(task)
        sign = 1.0 if tasks[task].goal == "up" else -1.0
        for item in rng.choice(len(scores), min(8, len(scores)), replace=False):
            for share in (1e-3, 0.3, 1.0):
                values = np.array(scores.values, dtype=np.float64)
                values[item, column] += share * (1.0 - values[item, column])
                after = strategy.fuse(ScoreTable(scores.tasks, values, scores.user_values), context).final[item]
                slack = _CLOSE * max(1.0, abs(before[item]))
                assert sign * (after - before[item]) >= -slack, f"raising {task!r} moved the final score against its goal"


CHECKS: Final[tuple[Check, ...]] = (
    one_finite_score_an_item,
    deterministic,
    changes_nothing,
    follows_the_items,
    reads_what_it_requires,
    survives_pickling,
    says_what_it_used,
    moves_with_the_goals,
)


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=_CLOSE, atol=_CLOSE))
