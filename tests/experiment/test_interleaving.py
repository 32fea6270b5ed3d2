"""Interleaving is fair, credits the right strategy, and sees a difference with fewer users than an A/B."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.arrays import Floats
from core.errors import DataError
from experiment.effects import Arm
from experiment.interleaving import credit_test, credits, sensitivity, team_draft
from experiment.metrics import Mean

rankings = st.lists(st.permutations(list(range(8))), min_size=1, max_size=4)


@settings(deadline=None)
@given(rankings, st.integers(1, 10), st.integers(0, 10_000))
def test_a_slate_has_no_doubles_and_every_team_picks_its_best_left(orders: list[list[int]], k: int, seed: int) -> None:
    mixed = team_draft([np.array(order) for order in orders], k, np.random.default_rng(seed))
    items = mixed.items.tolist()
    assert len(items) == len(set(items)) == min(k, 8)
    picks = np.bincount(mixed.team[mixed.team >= 0], minlength=len(orders))
    assert picks.max(initial=0) - picks.min(initial=8) <= 1
    for position, team in enumerate(mixed.team.tolist()):
        if team >= 0:
            assert items[position] == next(item for item in orders[team] if item not in items[:position])


def test_two_equal_strategies_earn_nothing_and_first_place_is_shared() -> None:
    same = [np.arange(5)] * 2
    assert (team_draft(same, 5, np.random.default_rng(0)).team == -1).all()
    rng = np.random.default_rng(1)
    first = [team_draft([np.arange(5), np.arange(5)[::-1]], 4, rng).team[0] for _ in range(2000)]
    assert np.mean(first) == pytest.approx(0.5, abs=0.04)


def play(better: float, n_users: int, seed: int) -> tuple[Floats, np.typing.NDArray[np.int64]]:
    """Clicks by quality; one strategy sorts by it, the other by it plus noise."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n_users), 3)
    taste = rng.gamma(1.0, 1.0, n_users)
    rows = []
    for user in unit:
        quality = rng.random(10)
        good, bad = np.argsort(-quality), np.argsort(-(quality + better * rng.normal(size=10)))
        mixed = team_draft([bad, good], 5, rng)
        rows.append(credits(mixed.team, (rng.random(5) < 0.4 * quality[mixed.items] * taste[user]).astype(float), 2))
    return np.stack(rows), unit


def test_the_better_strategy_wins_and_equal_ones_do_not() -> None:
    credit, unit = play(0.8, 400, seed=0)
    won = credit_test(credit, unit, 0, 1)
    assert won.diff_low > 0
    assert won.treatment > won.control
    rng = np.random.default_rng(5)
    rejected = [
        credit_test(rng.poisson(1.0, (300, 2)).astype(float), np.arange(300) // 3, 0, 1).p_value < 0.05 for _ in range(400)
    ]
    assert 0.02 < np.mean(rejected) < 0.09


def test_it_needs_fewer_users_than_the_ab() -> None:
    credit, unit = play(0.8, 600, seed=2)
    won = credit_test(credit, unit, 0, 1)
    rng = np.random.default_rng(3)
    taste = rng.gamma(1.0, 1.0, 4000)
    lift = won.treatment / won.control
    clicks = [rng.poisson(2 * taste[side::2] * (1 if side == 0 else lift)).astype(float) for side in (0, 1)]
    ab = Mean(name="m", task="c").analyze(*(Arm({"sum_c": part}) for part in clicks))
    assert sensitivity(won, 600, ab, 4000) > 1
    assert np.isnan(
        sensitivity(won, 600, Mean(name="m", task="c").analyze(Arm({"sum_c": clicks[0][:1]}), Arm({"sum_c": clicks[1]})), 9)
    )


def test_nothing_to_mix_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="at least one of each"):
        team_draft([], 5, np.random.default_rng(0))
    assert credit_test(np.zeros((1, 2)), np.array([1]), 0, 1).status == "too_few_units"
