"""Slate features: a list worked by hand, and a value that means of scores get wrong since lists are chosen for their scores."""

from __future__ import annotations

import numpy as np
import pytest

from core.arrays import AnyArray, Floats32
from core.errors import DataError
from fusion.ope import Episodes, LinearFqe, SlateFeatures, Target
from tests.fusion.ope.small import Table

GREEDY = np.array([0.9, -0.9])
N_TASKS, PAGE, PLACE = 2, 4, 8


def fuse(action: AnyArray, scores: AnyArray) -> AnyArray:
    final: AnyArray = (scores @ ((np.asarray(action) + 1) / 2)[:, :, None])[:, :, 0]
    return final


def greedy(obs: Floats32) -> AnyArray:
    return np.tile(GREEDY, (len(obs), 1))


def pages(n: int, seed: int, *, wide: float) -> Table:
    """Sessions of one page. Items are worth the logarithm of what the first score only guesses; a share `wide` of the pages is
    ranked at random weights, the others nearly by the first score alone."""
    rng = np.random.default_rng(seed)
    true = np.exp(rng.normal(size=(n, 30, N_TASKS))).astype(np.float32)
    scores = true * np.exp(rng.normal(size=true.shape)).astype(np.float32)
    near = np.clip(GREEDY + 0.1 * rng.uniform(-1, 1, (n, N_TASKS)), -1, 1)
    action = np.where(rng.random((n, 1)) < wide, rng.uniform(-1, 1, (n, N_TASKS)), near)
    rows = np.argsort(-fuse(action, scores), axis=1, kind="stable")[:, :PAGE]
    reward = np.log1p(np.take_along_axis(true[:, :, 0], rows, 1)).mean(1)
    still, number = np.zeros((n, 1), np.float32), np.arange(n)
    return Table(
        obs=still,
        next_obs=still,
        action=action.astype(np.float32),
        reward=reward,
        truncated=np.zeros(n, bool),
        propensity=np.ones(n),
        session=number,
        step=np.zeros(n, np.int64),
        user=number,
        candidate_scores=scores,
    )


class MeansAlone(SlateFeatures):
    """What the features were before: mean scores, and those of the reference list."""

    def __call__(
        self, obs: Floats32, action: AnyArray, scores: AnyArray | None = None, context: Floats32 | None = None
    ) -> Floats32:
        x = SlateFeatures.__call__(self, obs, action, scores, context)[:, obs.shape[1] + PLACE :]
        return np.concatenate([x[:, :N_TASKS], x[:, 2 * N_TASKS : 3 * N_TASKS]], axis=1)


def features(kind: type[SlateFeatures] = SlateFeatures) -> SlateFeatures:
    return kind(fuse, PAGE, np.ones(N_TASKS, np.float32), (), greedy)


def test_lists_are_valued_by_their_items_not_by_the_winners_luck() -> None:
    target = Target("greedy", greedy)
    truth = pages(40_000, 99, wide=0.0).reward.mean()
    errors = {
        kind: np.mean(
            [
                LinearFqe(Episodes.from_table(pages(4000, seed, wide=0.5)), features(kind), ridge=1e-3).evaluate(target).value
                for seed in range(3)
            ]
        )
        - truth
        for kind in (MeansAlone, SlateFeatures)
    }
    assert abs(errors[SlateFeatures]) < 0.012  # three logs' standard error is .003, the truth's .002
    assert abs(errors[MeansAlone]) > 0.012


def test_the_reference_list_differs_from_itself_in_nothing() -> None:
    episodes = Episodes.from_table(pages(50, 1, wide=0.5))
    some = features()
    context = some.context(episodes)
    found = some(episodes.obs, greedy(episodes.obs), episodes.scores, context)
    n_shown = 2 * N_TASKS + 3
    difference = found[:, 1 + PLACE + 2 * N_TASKS : 1 + PLACE + 2 * N_TASKS + n_shown]
    assert (difference == 0).all()
    assert (found[:, 1 + PLACE + 2 * N_TASKS + n_shown] == 1).all(), "all items are in common"


def test_a_list_by_hand() -> None:
    """Two of three items, scores 1 and 4, then 2 and 1 (scaled: 1 and 2, 2 and .5)."""
    scores = np.array([[[1.0, 4.0], [2.0, 1.0], [0.0, 0.0]]], np.float32)
    some = SlateFeatures(fuse, 2, np.array([1.0, 0.5], np.float32), (), None)
    obs = np.zeros((1, 0), np.float32)
    found = some(obs, np.ones((1, 2)), scores)[0]
    first, second = np.log([1.1, 2.1]), np.log([2.1, 0.6])
    wanted = [1.5, 1.25, *(first + second) / 2]
    wanted += [(first[i] * first[j] + second[i] * second[j]) / 2 for i, j in ((0, 0), (0, 1), (1, 1))]
    assert found == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(DataError, match="no candidate scores"):
        some(obs, np.ones((1, 2)))
