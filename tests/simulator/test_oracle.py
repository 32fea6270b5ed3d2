"""Who is better in the default world, with paired intervals: oracle over the best constants over hand-set over CTR alone."""

import numpy as np
import pytest

from simulator import SessionEnv, World
from simulator.judge import Judged, interval, judge, ratio_interval
from simulator.oracle import oracle_items, oracle_weights, share_of_gap
from simulator.policies import constant

N = 1200


@pytest.fixture(scope="module")
def env() -> SessionEnv:
    return SessionEnv(World.make("default", seed=0, n_users=3000, n_items=3000, n_candidates=60), 300)


def _constant(env: SessionEnv, **weights: float) -> Judged:
    vector = np.array([weights.get(task, 0.0) for task in env.world.tasks.names], np.float32)
    return judge(env, constant(env.actions(vector)), n_sessions=N, seed=1)


def test_oracles_beat_hand_set_which_beats_ctr(env: SessionEnv) -> None:
    hand = _constant(env, **env.world.settings.hand_set)
    ctr = _constant(env, click=1.0)
    rho = float(hand.session_return.sum() / hand.pages.sum())
    weights = judge(env, oracle_weights(env, rho=rho), n_sessions=N, seed=1)
    items = judge(env, n_sessions=N, seed=1, rank=oracle_items(rho=rho))
    assert interval(hand.session_return - ctr.session_return).low > 0
    assert ratio_interval(weights.session_return, hand.session_return).low > 1.1
    assert interval(items.session_return - weights.session_return).low > 0, "items know more than weights"


def test_clickbait_wins_clicks_and_loses_users() -> None:
    env = SessionEnv(World.make("clickbait", seed=0, n_users=3000, n_items=3000, n_candidates=60), 300)
    ctr, multi = _constant(env, click=1.0), _constant(env, click=0.5, watch_s=0.9, complete=0.2, like=0.2)
    per_page = ratio_interval(ctr.clicks, ctr.pages), ratio_interval(multi.clicks, multi.pages)
    assert per_page[0].low > per_page[1].high, "clicks per page"
    assert interval(multi.pages - ctr.pages).low > 0, "session length"
    assert interval(ctr.days_away - multi.days_away).low > 0, "days until the next session"


def test_share_of_gap_is_nan_without_a_gap() -> None:
    assert np.isnan(share_of_gap(1.0, 2.0, 2.0))
