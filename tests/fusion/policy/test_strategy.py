"""A policy's answer is its action's formula; it is the same for the same request, says its density, and falls back aloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.artefacts import ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec
from fusion.calibrate import Calibration, TaskCalibration
from fusion.checks import CHECKS, Check
from fusion.formula import Formula
from fusion.policy.exploration import boxed, mixed
from fusion.policy.networks import PolicyNet, build
from fusion.policy.state import Feature, StateSpec
from fusion.policy.strategy import PolicyStrategy
from fusion.strategy import load_strategy, publish

TASKS = TaskSet([TaskSpec("click"), TaskSpec("like")])
FORMULA = Formula.parse("w_click * click + w_like * like", tasks=["click", "like"], params=["w_click", "w_like"])
RANGES = {"w_click": (0.0, 1.0), "w_like": (0.0, 10.0)}
FALLBACK = {"w_click": 1.0, "w_like": 5.0}
STATE = StateSpec([Feature("age", "user", "age", scale=0.01), Feature("step", "request", "step", scale=0.1)])
SCORES = ScoreTable(("click", "like"), np.random.default_rng(1).random((12, 2)))
CONTEXT = {"request_id": "r1", "user": {"age": 40}, "step": 3}


def linear(seed: int = 0) -> PolicyNet:
    """A linear policy with known weights: tanh(W s + b)."""
    net = build({"kind": "actor", "n_obs": 2, "n_params": 2, "hidden": []})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net


def strategy(**changes: Any) -> PolicyStrategy:
    """A small policy over two tasks."""
    values: dict[str, Any] = {"formula": FORMULA, "ranges": RANGES, "state": STATE, "network": linear(), "fallback": FALLBACK}
    return PolicyStrategy(**(values | changes))


def test_the_action_becomes_the_formula_s_parameters() -> None:
    net = linear()
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    weight, bias = arrays["layers.0.weight"], arrays["layers.0.bias"]
    action = np.tanh(weight @ np.array([0.4, 0.3]) + bias)
    w_click, w_like = (action[0] + 1) / 2, 10 * (action[1] + 1) / 2
    fused = strategy().fuse(SCORES, CONTEXT)
    np.testing.assert_allclose(fused.final, w_click * SCORES["click"] + w_like * SCORES["like"], rtol=1e-5)
    assert fused.decision is not None
    np.testing.assert_allclose(fused.decision.state, [0.4, 0.3], rtol=1e-6)
    np.testing.assert_allclose(fused.decision.action, action, rtol=1e-5)
    assert (fused.propensity, fused.decision.explores, fused.note) == (1.0, False, None)
    np.testing.assert_allclose(strategy().action(fused.weights), fused.decision.action, rtol=1e-5)


def test_exploration_is_the_request_s_own() -> None:
    explores = strategy(exploration=mixed())
    one = explores.fuse(SCORES, CONTEXT)
    again = strategy(exploration=mixed()).fuse(SCORES, CONTEXT)
    other = explores.fuse(SCORES, {**CONTEXT, "request_id": "r2"})
    assert one.decision is not None
    assert again.decision is not None
    assert other.decision is not None
    np.testing.assert_array_equal(one.decision.action, again.decision.action)
    assert one.propensity == again.propensity
    assert (one.decision.action != other.decision.action).any()
    np.testing.assert_array_equal(one.decision.baseline, other.decision.baseline)
    assert one.decision.component in ("wide", "near")
    expected = mixed().density(one.decision.action[None], one.decision.baseline[None])[0]
    assert one.propensity == pytest.approx(expected, rel=1e-9)
    assert np.isnan(one.decision.box)


def test_the_box_is_logged() -> None:
    fused = strategy(exploration=boxed()).fuse(SCORES, CONTEXT)
    assert fused.decision is not None
    assert fused.decision.box == 0.15
    assert (np.abs(fused.decision.action - fused.decision.baseline) <= 0.15 + 1e-6).all()
    assert fused.decision.component_density == fused.propensity


def test_actions_over_requests_follow_the_logged_density() -> None:
    """The mean of 1 / density over requests is the volume of the support: here all of [-1, 1]^2."""
    explores = strategy(exploration=mixed(near=0.5))
    densities = [explores.fuse(SCORES, {**CONTEXT, "request_id": f"r{i}"}).propensity for i in range(3_000)]
    assert np.mean(1 / np.array(densities)) == pytest.approx(4, rel=0.08)


@pytest.mark.parametrize(
    ("context", "lacks"),
    [
        ({"request_id": "r1", "step": 3}, "age"),
        ({"request_id": "r1", "user": {"age": 40}}, "step"),
        ({"user": {"age": 40}, "step": 3}, "request_id"),
    ],
)
def test_without_its_state_it_falls_back_and_says_so(context: dict[str, Any], lacks: str) -> None:
    fused = strategy(exploration=mixed()).fuse(SCORES, context)
    np.testing.assert_allclose(fused.final, SCORES["click"] + 5 * SCORES["like"])
    assert (fused.note, fused.decision, fused.propensity) == (f"no_state:{lacks}", None, 1.0)


def test_a_network_that_answers_nan_is_an_error_for_the_ladder() -> None:
    net = linear()
    with torch.no_grad():
        next(net.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        strategy(network=net).fuse(SCORES, CONTEXT)


@pytest.mark.parametrize("exploration", [None, mixed(), boxed()], ids=["plain", "mixed", "boxed"])
@pytest.mark.parametrize("context", [CONTEXT, {}], ids=["state", "fallback"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_policy_keeps(check: Check, context: dict[str, Any], exploration: Any) -> None:
    check(strategy(exploration=exploration), SCORES, context, TASKS)


def test_published_is_loaded(tmp_path: Path) -> None:
    calibration = Calibration({"click": TaskCalibration("platt", np.array([2.0, 0.5]))})
    made = strategy(exploration=mixed(), calibration=calibration)
    store = ArtefactStore(tmp_path)
    publish(store, "p", made, ranker="ranker/demo/v1")
    loaded = load_strategy(store.find("strategy/p"))
    one, two = made.fuse(SCORES, CONTEXT), loaded.fuse(SCORES, CONTEXT)
    np.testing.assert_array_equal(one.final, two.final)
    assert one.propensity == two.propensity
    assert made.fuse(SCORES).final.tolist() == loaded.fuse(SCORES).final.tolist()


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    class Other(PolicyStrategy):
        def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
            config, files = super().to_files()
            return {**config, "network": {**config["network"], "hidden": [4]}}, files

    artefact = publish(ArtefactStore(tmp_path), "p", Other(FORMULA, RANGES, STATE, linear(), FALLBACK))
    with pytest.raises(ArtefactError, match="do not fit its configuration"):
        load_strategy(artefact)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fallback": {"w_click": 2.0, "w_like": 5.0}}, "'w_click' .* outside its range"),
        ({"ranges": {"w_click": (0.0, 1.0)}}, "the formula's parameters are w_click, w_like"),
        ({"ranges": {"w_click": (1.0, 1.0), "w_like": (0.0, 1.0)}}, "low below their high"),
        ({"network": build({"kind": "actor", "n_obs": 2, "n_params": 3, "hidden": []})}, "the formula needs"),
    ],
)
def test_what_does_not_fit_is_refused_at_load(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        strategy(**changes)


def test_another_ranker_s_scores_are_an_error() -> None:
    with pytest.raises(ConfigError, match="needs task 'like'"):
        strategy().fuse(ScoreTable(("click",), np.ones((2, 1))), CONTEXT)


def test_serving_a_policy_imports_no_ray() -> None:
    code = "import sys, fusion.strategy; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
