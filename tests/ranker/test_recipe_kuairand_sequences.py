"""Sequences hold earlier behaviours only, in order, with their properties."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.recipes import kuairand
from ranker.recipes.kuairand_known import DELAY_MS
from ranker.recipes.kuairand_sequences import AGE_NAMES, ITEM_PARTS, latest, with_degree, with_sequences

DATA = Path(os.environ.get("SCOREFUSION_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "kuairand_pure"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(1, 5))
def test_latest_is_a_loop_over_earlier_events(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    user, time = rng.integers(0, 4, 30), rng.integers(-5, 20, 30)
    order = np.lexsort((time, user))
    user, time = user[order], time[order]
    row_user, row_time = rng.integers(0, 5, 10), rng.integers(-8, 25, 10)
    places, n = latest(row_user, row_time, user, time, length)
    at = 0
    for u, t, count in zip(row_user, row_time, n, strict=True):
        mine = [i for i in range(30) if user[i] == u and time[i] <= t][-length:]
        assert places[at : at + count].tolist() == mine
        at += count


@pytest.mark.skipif(not DATA.is_dir(), reason="KuaiRand-Pure is not beside the repository; set SCOREFUSION_DATA")
def test_kuairand_rows_see_their_own_past_and_nothing_later() -> None:
    recipe = with_degree(with_sequences(kuairand.load(DATA, tasks=("click", "like")), DATA, length=10))
    rows = recipe.test.take(np.arange(0, len(recipe.test), 40))
    train, valid, test = recipe.train, recipe.valid, recipe.test
    user, time, item, done = (
        np.concatenate([np.asarray(part[name]) for part in (train, valid, test)])
        for name in ("user_id", "time_ms", "item_id", "click")
    )
    checked = 0
    for row in range(0, len(rows), 10):
        past = list(rows["past_item_id"][row])
        for name in (*ITEM_PARTS, "scenario", "age", "kind"):
            assert len(rows[f"past_{name}"][row]) == len(past) <= 10
        assert set(rows["past_age"][row]) <= set(AGE_NAMES[2:])
        clicked = (user == rows["user_id"][row]) & (time <= rows["time_ms"][row] - DELAY_MS) & (done > 0)
        newest = item[clicked][np.argsort(time[clicked])][-3:].tolist()
        assert set(newest) <= set(past)
        checked += len(newest)
    assert checked > 20
    assert "user_active_degree" not in recipe.spec.columns()
    assert set(np.unique(rows["degree"])) <= set(range(9))
