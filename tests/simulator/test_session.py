"""Pages: the best rows in order, what a step moves, what a session carries."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from simulator import World
from simulator.session import Sessions, top
from simulator.streams import key

WORLD = World.make("default", seed=2, n_users=100, n_items=150, n_candidates=12)


def _begun(n: int) -> Sessions:
    sessions, slots, zero = Sessions(WORLD, n), np.arange(n), np.zeros(n, np.int64)
    sessions.begin(slots, key(1, slots), slots, zero, zero, None, zero)
    sessions.offer()
    return sessions


@given(arrays(np.float64, (3, 9), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf, np.nan])), st.integers(1, 9))
def test_top_is_a_stable_sort_with_nan_last(final: np.ndarray[tuple[int, int], np.dtype[np.float64]], k: int) -> None:
    wanted = np.argsort(-np.where(np.isnan(final), -np.inf, final), axis=1, kind="stable")[:, :k]
    assert np.array_equal(top(final, k), wanted)


def test_a_page_moves_step_clock_and_counts() -> None:
    sessions = _begun(20)
    before = sessions.clock_ms.copy()
    page = sessions.show(np.tile(np.arange(6), (20, 1)))
    assert (sessions.step == 1).all()
    assert (sessions.clock_ms >= before + 2000).all()
    assert np.array_equal(sessions.counts, page.counts)
    assert np.array_equal(page.items, sessions.items[:, :6])
    assert not (page.left & page.cut).any()


def test_the_step_limit_cuts_what_has_not_left() -> None:
    sessions = _begun(50)
    sessions.step[:] = WORLD.settings.step_limit - 1
    page = sessions.show(np.tile(np.arange(6), (50, 1)))
    assert (page.left ^ page.cut).all()


def test_repeated_topics_bore() -> None:
    sessions = _begun(40)
    for _ in range(3):
        sessions.show(np.tile(np.arange(6), (40, 1)))
        sessions.offer()
    assert sessions.boredom.max() > 0.5
    assert (sessions.boredom >= 0).all()


def test_a_fresh_session_forgets_the_last_one_in_its_slot() -> None:
    sessions = _begun(10)
    sessions.show(np.tile(np.arange(6), (10, 1)))
    again = _begun(10)
    slots, zero = np.arange(10), np.zeros(10, np.int64)
    sessions.begin(slots, key(1, slots), slots, zero, zero, None, zero)
    sessions.offer()
    for name in ("items", "planes", "truth", "satisfaction", "boredom", "counts", "clock_ms"):
        assert np.array_equal(getattr(sessions, name), getattr(again, name)), name
