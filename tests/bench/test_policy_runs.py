"""The policy bench keeps what it made: a killed run reads it again, and another plan's files are not mistaken for its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.policy_runs import Plan, Workbench
from fusion.policy.learner.non_rl import hand_set

PLAN = Plan(log_sessions=40, judge_sessions=16, overrides=(("n_users", 100), ("n_items", 150), ("n_candidates", 12)))


def test_policies_and_judged_sessions_are_kept(tmp_path: Path) -> None:
    bed = Workbench("default", PLAN, tmp_path)
    made = bed.learned("least_squares", "least_squares", {}, 1)
    judged = bed.judged("least_squares-1", made, 11)
    files = sorted(path.name for path in tmp_path.iterdir())
    again = Workbench("default", PLAN, tmp_path)
    net = again.learned("least_squares", "least_squares", {}, 1).net
    obs = torch.rand(5, len(bed.ground.env.observer.names))
    assert torch.equal(net.act(obs), made.net.act(obs))
    assert np.array_equal(again.judged("least_squares-1", made, 11).session_return, judged.session_return)
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    other = Workbench("default", replace(PLAN, log_sessions=41), tmp_path)
    other.searched("hand_set", hand_set, 1)
    assert len(list(tmp_path.iterdir())) == len(files) + 1


def test_policies_are_judged_on_the_same_sessions_below_the_oracle(tmp_path: Path) -> None:
    bed = Workbench("default", replace(PLAN, judge_sessions=200), tmp_path)
    hand, oracle = (bed.returns(name, made, (11,))[0] for name, made in (("hand_set", bed.hand_set()), ("oracle", None)))
    assert hand == bed.ground.judge(bed.hand_set().net, n_sessions=200, seed=10_011).session_return.mean()
    assert oracle > hand
