"""Worlds: the rates and AUCs that were asked for come out, and extreme settings break nothing."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.arrays import auc
from core.errors import DataError
from simulator import SessionEnv, World, rollout
from simulator.policies import constant, mixed_exploration
from simulator.session import Sessions
from simulator.settings import WorldSettings
from simulator.streams import key
from simulator.world import solve_intercept

TASKS = ("click", "long_view", "complete", "like", "follow", "comment", "share", "hate", "purchase", "watch_s")


@pytest.fixture(scope="module")
def world() -> World:
    return World.make("default", seed=5, n_users=3000, n_items=2000, n_candidates=50)


@pytest.fixture(scope="module")
def offered(world: World) -> Sessions:
    """Candidates of 1,500 first pages: 75,000 pairs with their truth and predictions."""
    sessions = Sessions(world, 1500)
    zero = np.zeros(1500, np.int64)
    slots = np.arange(1500)
    sessions.begin(slots, key(9, slots), slots * 2, zero, zero, None, zero)
    sessions.offer()
    return sessions


def test_base_rates_are_those_of_the_settings(world: World, offered: Sessions) -> None:
    truth = world.true_scores(offered.truth, offered.items).astype(float)
    rates = dict(zip(TASKS, truth.mean((1, 2)), strict=True))
    assert rates["click"] == pytest.approx(0.35, rel=0.05)
    for name, head in world.settings.heads.items():
        assert rates[name] / rates["click"] == pytest.approx(head.rate, rel=0.15), name


def test_predictions_reach_their_auc_and_are_calibrated(world: World, offered: Sessions) -> None:
    truth = world.true_scores(offered.truth, offered.items).astype(float)
    rng = np.random.default_rng(0)
    for index, task in enumerate(TASKS[:-1]):
        label, score = rng.random(truth[index].shape) < truth[index], offered.planes[index].astype(float)
        wanted = world.settings.ranker[task].auc
        error = 0.5 / np.sqrt(label.sum()) + 0.015  # the AUC's own, and that of other users than the world was measured with
        assert auc(label.ravel(), score.ravel()) == pytest.approx(wanted, abs=error), task
        assert score.mean() == pytest.approx(truth[index].mean(), rel=0.1), task
    assert offered.planes[-1].mean() == pytest.approx(truth[-1].mean(), rel=0.1)


def test_a_set_bias_spoils_the_calibration_and_not_the_order() -> None:
    plain = World.make("default", seed=5, n_users=500, n_items=500, n_candidates=20)
    biased = World.make("default", seed=5, n_users=500, n_items=500, n_candidates=20, ranker={"click": {"bias": 1.0}})
    both = []
    for world in (plain, biased):
        sessions, slots, zero = Sessions(world, 50), np.arange(50), np.zeros(50, np.int64)
        sessions.begin(slots, key(9, slots), slots, zero, zero, None, zero)
        sessions.offer()
        both.append(sessions.planes[0].ravel())
    assert both[1].mean() > both[0].mean() + 0.1
    assert auc(both[0] > np.median(both[0]), both[1].astype(float)) > 0.999


def test_candidates_are_distinct_and_partly_personal(world: World, offered: Sessions) -> None:
    assert all(len(set(row)) == world.settings.n_candidates for row in offered.items.tolist())
    taste = world.population.taste(offered.user, np.zeros(1500, np.float32), 60.0)
    assert world.affinity(taste, offered.items).mean() > 0.3, (
        "candidates fit their users better than random items, whose affinity is 0"
    )


def test_popularity_follows_a_power_law(world: World, offered: Sessions) -> None:
    shown = np.sort(np.bincount(offered.items.ravel(), minlength=2000))[::-1]
    assert shown[:200].sum() > 0.3 * shown.sum()


def test_chain_is_conditional(world: World) -> None:
    env = SessionEnv(world, 128)
    log = rollout(env, mixed_exploration(env.actions(world.hand_set())), 600, seed=3)
    for task in TASKS[1:-1]:
        assert (log["click"][log[task] > 0] == 1).all(), f"{task} without a click"
    assert (log["watch_s"] >= 0).all()
    assert log["long_view"][log["complete"] > 0].all(), "what is watched to its end is a long view"
    first, last = (log["click"][log["position"] == p].mean() for p in (1, 6))
    assert first > last, "the first position is looked at more"
    liked, other = log["watch_s"][(log["like"] > 0)], log["watch_s"][(log["click"] > 0) & (log["like"] == 0)]
    assert liked.mean() > other.mean(), "behaviours of one viewing go together"


def test_clickbait_is_clicked_and_not_watched() -> None:
    world = World.make("clickbait", seed=1, n_users=500, n_items=500, n_candidates=20)
    bait = world.catalogue.clickbait > 0.7
    click, watch = world.behaviour.item[0], world.behaviour.item[1]
    assert click[bait].mean() > click[~bait].mean() + 1
    assert watch[bait].mean() < watch[~bait].mean() - 0.5


def test_satisfaction_keeps_users_and_brings_them_back(world: World) -> None:
    happy, sad, zero = np.full(1, 1.0, np.float32), np.full(1, -1.0, np.float32), np.zeros(1, np.float32)
    step = np.ones(1, np.int64)
    assert world.satisfaction.hazard(happy, zero, step)[0] < world.satisfaction.hazard(sad, zero, step)[0]
    u = np.full(1, 0.2, np.float32)
    assert world.satisfaction.days_away(happy, zero, u)[0] <= world.satisfaction.days_away(sad, zero, u)[0]


def test_tastes_drift_and_keep_their_size(world: World) -> None:
    users = np.arange(3000)
    today, later = (world.population.taste(users, np.full(3000, d, np.float32), 60.0) for d in (0, 30))
    assert today.std() == pytest.approx(1.0, abs=0.05)
    assert later.std() == pytest.approx(1.0, abs=0.05)
    assert 0.5 < np.corrcoef(today.ravel(), later.ravel())[0, 1] < 0.95


def test_a_world_is_saved_and_made_again(world: World, tmp_path: object) -> None:
    small = World.make("two_scenarios", seed=8, n_users=50, n_items=120, n_candidates=10)
    folder = small.save(str(tmp_path))
    again = World.load(folder)
    assert again.settings == small.settings
    assert np.array_equal(again.behaviour.item, small.behaviour.item)
    with pytest.raises(DataError, match="no world at"):
        World.load(folder / "nowhere")


def test_hidden_state_is_not_visible(world: World) -> None:
    visible = {*world.item_columns(), *world.user_columns()}
    assert not visible & {"quality", "clickbait", "need", "patience", "steady"}


def test_two_scenarios_behave_differently() -> None:
    world = World.make("two_scenarios", seed=1, n_users=500, n_items=500, n_candidates=20)
    env = SessionEnv(world, 128)
    log = rollout(env, constant(env.actions(world.hand_set())), 800, seed=1)
    shop, feed = (log.take(log["scenario"] == name) for name in ("shop", "feed"))
    assert 0.1 < len(shop) / len(log) < 0.45
    assert shop["purchase"].mean() > 2 * feed["purchase"].mean()
    assert shop["watch_s"].mean() < feed["watch_s"].mean()


def test_solve_intercept_hits_the_rate() -> None:
    logit = np.random.default_rng(0).normal(size=1000)
    shift = solve_intercept(logit, np.ones(1000), 0.03)
    assert (1 / (1 + np.exp(-logit - shift))).mean() == pytest.approx(0.03, abs=1e-6)


EXTREMES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("click_rate", "leave_rate"), (1e-06, 1 - 1e-06)),
    **dict.fromkeys(("click_spread_user", "click_spread_item", "watch_spread_user", "need_spread"), (0.0, 5.0)),
    **dict.fromkeys(("duration_spread", "patience_spread", "activity_spread", "ranker_user_spread"), (0.0, 5.0)),
    **dict.fromkeys(("popularity_power", "examine_power", "cold_noise", "boredom", "watch_finish"), (0.0, 8.0)),
    **dict.fromkeys(("click_taste", "click_quality", "click_clickbait", "click_fresh", "clickbait_quality"), (-15.0, 15.0)),
    **dict.fromkeys(("watch_duration", "watch_taste", "watch_quality", "watch_clickbait", "leave_fatigue"), (-8.0, 8.0)),
    **dict.fromkeys(("regret_clickbait", "leave_satisfaction", "return_satisfaction"), (-50.0, 50.0)),
    **dict.fromkeys(("clickbait_share", "new_share", "drift_share", "personal_share", "session_carry"), (0.0, 1.0)),
    **dict.fromkeys(("duration_median_s", "watch_median_s", "long_view_s", "fresh_days", "return_days"), (0.001, 10000.0)),
    "boredom_keep": (0.0, 1.0),
    "satisfaction_keep": (0.0, 0.999),
    "drift_period_days": (1e-3, 1e5),
    "watch_noise": (1e-3, 5.0),
    "personal_sharpness": (0.0, 50.0),
    "cohort_taste": (0.0, 1.0),
}


def test_every_number_of_the_settings_has_its_extremes() -> None:
    assert set(EXTREMES) == {f.name for f in fields(WorldSettings) if f.type == "float"}


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    chosen=st.lists(st.sampled_from(sorted(EXTREMES)), min_size=8, max_size=16, unique=True),
    high=st.lists(st.booleans(), min_size=16, max_size=16),
    action=st.sampled_from([-1.0, 0.0, 1.0]),
    n_candidates=st.sampled_from([6, 30]),
    n_topics=st.sampled_from([1, 16]),
)
def test_extreme_settings_give_no_nan_and_no_negative_time(
    chosen: list[str], high: list[bool], action: float, n_candidates: int, n_topics: int
) -> None:
    extreme = {name: EXTREMES[name][at] for name, at in zip(chosen, high, strict=False)}
    world = World.make("default", seed=1, n_users=40, n_items=60, n_candidates=n_candidates, n_topics=n_topics, **extreme)
    env = SessionEnv(world, 16)
    log = rollout(env, constant(np.full(env.n_params, action)), 24, seed=1)
    for name in log:
        if log[name].dtype.kind == "f" and name != "propensity":
            assert np.isfinite(log[name]).all(), name
    assert (log["watch_s"] >= 0).all()
    assert (log["days_away"] >= -1).all()
    assert (np.diff(log["time_ms"])[np.diff(log["session"]) == 0] >= 0).all()
    assert np.isfinite(env.observer.see(env.sessions)).all()
    assert np.isfinite(world.unit).all()
