"""The table keeps what the log said, walks to disk and back unchanged, and refuses logs that would mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.arrays import AnyArray
from core.errors import DataError
from fusion.policy.reward import Reward
from fusion.policy.transitions import Transitions, save_parts
from simulator.env import SessionEnv
from simulator.policies import uniform_box
from simulator.rollout import session_returns, transitions

NAMES: dict[str, Any] = {"obs_names": ["x", "y"], "param_names": ["w"], "low": np.zeros(1), "high": np.full(1, 4.0)}


def log(**changes: AnyArray) -> dict[str, AnyArray]:
    """Two sessions of two pages and one page, unsorted; steps count from 1."""
    columns: dict[str, AnyArray] = {
        "session": np.array([9, 4, 4]),
        "step": np.array([1, 2, 1]),
        "user_id": np.array(["b", "a", "a"], object),
        "obs": np.array([[5.0, 6], [3, 4], [1, 2]]),
        "next_obs": np.array([[7.0, 8], [9, 9], [3, 4]]),
        "action": np.array([[0.5], [-1.0], [1.0]]),
        "baseline": np.array([[0.4], [-0.9], [0.9]]),
        "terminated": np.array([True, False, False]),
        "truncated": np.array([False, True, False]),
        "propensity": np.array([0.5, np.nan, 2.0]),
        "like": np.array([1.0, 0.0, 2.0]),
        "reward": np.array([10.0, 20.0, 30.0]),
    }
    return columns | changes


def test_rows_come_by_session_and_step() -> None:
    table = Transitions.from_log(log(), reward=Reward({"activeness": {"like": 0.5}}, {"activeness": 2.0}), **NAMES)
    assert table.session.tolist() == [4, 4, 9]
    assert table.step.tolist() == [0, 1, 0]
    assert table.user.tolist() == [0, 0, 1]
    assert table.reward.tolist() == [2.0, 0.0, 1.0]
    assert table.rewards.tolist() == [[1.0], [0.0], [0.5]]
    assert table.starts.tolist() == [0, 2]
    assert table.returns(gamma=0.5).tolist() == [2.0, 1.0]
    assert np.isnan(table.box).all()
    np.testing.assert_allclose(table.next_baseline[:, 0], [-0.9, -0.9, 0.4], rtol=1e-6)


def test_without_groups_the_log_s_own_reward_is_the_only_one() -> None:
    table = Transitions.from_log(log(), **NAMES)
    assert table.group_names == ("reward",)
    assert table.returns().tolist() == [50.0, 10.0]


def test_positions_earn_what_the_reward_says() -> None:
    own = {"position_rewards": np.array([[9.0, 1], [20, 0], [10, 20]])}
    counted = own | {"at_like": np.array([[0.0, 1], [0, 0], [1, 1]])}
    plain = Transitions.from_log(log(**own), **NAMES)
    assert plain.position_rewards is not None
    assert plain.position_rewards.tolist() == [[10, 20], [20, 0], [9, 1]]
    reward = Reward({"activeness": {"like": 0.5}}, {"activeness": 2.0})
    table = Transitions.from_log(log(**counted), reward=reward, **NAMES)
    assert table.position_rewards is not None
    assert table.position_rewards.tolist() == [[1, 1], [0, 0], [0, 1]]
    np.testing.assert_array_equal(table.position_rewards.sum(1), table.reward)
    # the log's own column is of another reward than the one asked for
    assert Transitions.from_log(log(**own), reward=reward, **NAMES).position_rewards is None


def test_a_baseline_may_be_a_policy() -> None:
    table = Transitions.from_log({k: v for k, v in log().items() if k != "baseline"}, baseline=lambda o: o[:, :1] / 10, **NAMES)
    np.testing.assert_allclose(table.baseline[:, 0], [0.1, 0.3, 0.5], rtol=1e-6)
    np.testing.assert_allclose(table.next_baseline[:, 0], [0.3, 0.9, 0.7], rtol=1e-6)


def test_the_box_is_found_from_its_cut_bounds() -> None:
    bounds = {"box_low": np.array([[0.25], [-1.0], [0.75]]), "box_high": np.array([[0.55], [-0.75], [1.0]])}
    table = Transitions.from_log(log(**bounds), **NAMES)
    np.testing.assert_allclose(table.box, [0.15, 0.15, 0.15], rtol=1e-5)


def test_disk_and_back_is_the_same_as_a_map(tmp_path: Path) -> None:
    extra: dict[str, AnyArray] = {
        "candidates": np.arange(6).reshape(3, 2),
        "candidate_scores": np.arange(12.0).reshape(3, 4).astype(np.float16),
    }
    table = Transitions.from_log(log(**extra), task_names=["click", "like"], **NAMES)
    table.save(tmp_path / "t")
    again = Transitions.load(tmp_path / "t")
    assert isinstance(again.obs, np.memmap)
    assert again.candidate_scores is not None
    assert again.candidate_scores.shape == (3, 2, 2)
    assert again.candidate_scores[0].tolist() == [[8.0, 9.0], [10.0, 11.0]]
    for name, column in table.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])
        assert column.dtype == again.columns()[name].dtype
    assert (again.obs_names, again.param_names, again.task_names) == (("x", "y"), ("w",), ("click", "like"))
    some = again.take(np.array([2, 0]))
    assert some.session.tolist() == [9, 4]
    assert not isinstance(some.obs, np.memmap)


def test_parts_written_one_by_one_are_one_table(tmp_path: Path) -> None:
    whole = Transitions.from_log(log(), **NAMES)
    assert save_parts(tmp_path / "t", (whole.take(np.array([i])) for i in range(3))) == 3
    assert save_parts(tmp_path / "t", (whole.take(np.array([i])) for i in range(3))) == 3  # an older table is replaced
    again = Transitions.load(tmp_path / "t")
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    whole = Transitions.from_log(log(), **NAMES)
    other = Transitions.from_log(log(), **{**NAMES, "obs_names": ["x", "z"]})
    with pytest.raises(DataError, match="other names"):
        save_parts(tmp_path / "t", [whole, other])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no transition table"):
        Transitions.load(tmp_path / "t")
    whole.save(tmp_path / "t")
    np.save(tmp_path / "t" / "obs.npy", np.zeros((2, 2)))
    with pytest.raises(DataError, match="column 'obs'"):
        Transitions.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": np.array([1, 3, 1])}, "1 of 2 sessions have holes: session 4 has step 3 where 2"),
        ({"step": np.array([2, 2, 1])}, "1 of 2 sessions have holes: session 9 has step 2 where 1"),
        ({"step": np.array([1, 1, 1])}, "missing or doubled"),
        ({"action": np.array([[0.5], [-1.2], [1.0]])}, "outside \\[-1, 1\\]"),
        ({"obs": np.array([[5.0, np.nan], [3, 4], [1, 2]])}, "obs holds a number that is not finite"),
        ({"propensity": np.array([0.0, 1.0, 1.0])}, "density above 0"),
    ],
)
def test_a_misleading_log_is_refused(changes: dict[str, AnyArray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Transitions.from_log(log(**changes), **NAMES)


def test_an_action_outside_its_box_is_refused() -> None:
    with pytest.raises(DataError, match="outside the box of"):
        Transitions.from_log(log(), box=0.05, **NAMES)
    assert Transitions.from_log(log(), box=0.15, **NAMES).box.tolist() == [np.float32(0.15)] * 3


def test_sessions_with_holes_can_be_left_out() -> None:
    assert Transitions.from_log(log(step=np.array([1, 3, 1])), gaps="drop", **NAMES).session.tolist() == [9]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="no column 'next_obs'"):
        Transitions.from_log({k: v for k, v in log().items() if k != "next_obs"}, **NAMES)


def test_a_rollout_becomes_a_table() -> None:
    env = SessionEnv("default", num_envs=8, overrides={"n_users": 60, "n_items": 300, "n_candidates": 12})
    rows = transitions(env, uniform_box(np.zeros(env.n_params), half=0.3), 12, seed=3, candidates=True)
    tasks = env.world.tasks.names
    gains = dict(env.world.settings.reward)
    table = Transitions.from_log(
        rows.columns,
        obs_names=env.observer.names,
        param_names=tasks,
        low=env.low,
        high=env.high,
        reward=Reward({"all": gains}),
        task_names=tasks,
    )
    np.testing.assert_allclose(table.returns(), session_returns(rows), rtol=1e-5)
    np.testing.assert_allclose(table.box, 0.3, rtol=1e-5)
    assert table.step[table.starts].tolist() == [0] * 12
    assert table.candidate_scores is not None
    assert table.candidate_scores.shape == (len(table), 12, len(tasks))
    inner = np.flatnonzero(np.diff(table.session) == 0)
    np.testing.assert_array_equal(table.next_obs[inner], table.obs[inner + 1])
    assert (table.terminated | table.truncated).sum() == 12
