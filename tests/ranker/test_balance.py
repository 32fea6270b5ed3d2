"""Balancers: hand-worked weights, the right layer, steps that do not hurt a task, and every one of them trains."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import UPGrad as LibraryUPGrad

from core.errors import ConfigError
from ranker import balance, checks, models
from ranker.balance.aggregators import PCGrad, UPGrad
from ranker.balance.decay import Decay
from ranker.balance.dwa import DWA
from ranker.balance.fixed import Fixed
from ranker.balance.gradients import shared_parameters, task_gradients
from ranker.balance.gradnorm import GradNorm
from ranker.balance.pareto import pareto_weights
from ranker.balance.uncertainty import Uncertainty
from ranker.checks import Example
from ranker.experts import BatchedLinear

NAMES = checks.TASKS.names


def example(name: str = "mmoe", **options: object) -> Example:
    return Example(lambda layout, tasks: models.make(name, layout, tasks, options))


def losses(one: Example) -> Tensor:
    return one.losses(one.model.run(one.rows), one.rows.values, one.rows.weights)


def test_decay_is_a_power_of_the_epoch() -> None:
    one = example()
    decay = Decay(one.tasks, one.model, weights={"click": 2.0}, gamma={"click": 0.5, "like": 2.0})
    decay.start_epoch(3)
    assert decay.weights() == {"click": 0.25, "like": 8.0, "watch_s": 1.0}


def test_uncertainty_settles_where_the_likelihood_is_stationary() -> None:
    """exp(-s) = 1 / (2 c L): weight 1 / (2 L) for every task, regression or not."""
    one = example()
    kendall = Uncertainty(one.tasks, one.model)
    optimiser = torch.optim.Adam(kendall.parameters(), 0.05)
    constant = torch.tensor([0.5, 0.1, 2.0])
    for _ in range(800):
        optimiser.zero_grad()
        kendall.backward(constant, None)
        optimiser.step()
    assert list(kendall.weights().values()) == pytest.approx([1.0, 5.0, 0.25], rel=0.01)


def test_dwa_weighs_the_slow_task_more() -> None:
    one = example()
    dwa = DWA(one.tasks, one.model, temperature=1.0)
    for epoch, level in enumerate(([1.0, 1.0, 1.0], [1.0, 0.5, 0.5])):
        dwa.start_epoch(epoch)
        assert list(dwa.weights().values()) == [1.0, 1.0, 1.0]
        dwa.backward(torch.tensor(level, requires_grad=True), None)
    dwa.start_epoch(2)
    slow, fast = np.exp(1.0), np.exp(0.5)
    expected = [3 * slow / (slow + 2 * fast), 3 * fast / (slow + 2 * fast), 3 * fast / (slow + 2 * fast)]
    assert list(dwa.weights().values()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["shared_bottom", "mmoe", "ple", "aesm2", "cross_stitch"])
def test_gradnorm_reads_the_last_shared_layer_and_no_embedding(name: str) -> None:
    one = example(name)
    layer = one.model.shared_layers()[-1]
    assert isinstance(layer, BatchedLinear)
    norm = GradNorm(one.tasks, one.model, alpha=0.0)
    assert {id(p) for p in norm.layer} == {id(layer.weight), id(layer.bias)}
    tables = {id(p) for p in one.model.inputs.parameters()}
    towers = {id(p) for p in one.model.towers.parameters()}
    assert not {id(p) for p in norm.layer} & (tables | towers)
    found = losses(one)
    expected = []
    for loss in found:
        grads = torch.autograd.grad(loss, [layer.weight, layer.bias], retain_graph=True)
        expected.append(torch.cat([g.flatten() for g in grads]).norm().item())
    assert task_gradients(found, norm.layer).norm(dim=1).tolist() == pytest.approx(expected, rel=1e-5)


def test_gradnorm_lowers_the_weight_of_the_loudest_task() -> None:
    one = example("shared_bottom")
    norm = GradNorm(one.tasks, one.model, alpha=0.0)
    for _ in range(60):
        found = losses(one) * torch.tensor([50.0, 1.0, 1.0])
        norm.backward(found, None)
    weights = norm.weights()
    assert weights["click"] < min(weights["like"], weights["watch_s"])
    assert sum(weights.values()) == pytest.approx(3.0, rel=1e-4)
    scaled = task_gradients(losses(one) * torch.tensor([50.0, 1.0, 1.0]), norm.layer).norm(dim=1) * norm.weight
    assert float(scaled.max() / scaled.min()) < 3  # 50 times and more before


@pytest.mark.parametrize("name", ["gradnorm", "mgda", "pcgrad", "cagrad", "upgrad", "pareto"])
def test_nothing_shared_is_an_error(name: str) -> None:
    one = example("single_task")
    with pytest.raises(ConfigError, match="shares no dense layer"):
        balance.make(name, one.tasks, one.model)


def test_aggregation_touches_the_shared_layers_only() -> None:
    one = example("shared_bottom")
    shared = shared_parameters(one.model)
    Fixed(one.tasks, one.model).backward(losses(one), None)
    plain = {name: p.grad.clone() for name, p in one.model.named_parameters() if p.grad is not None}
    jacobian = task_gradients(losses(one), shared)
    one.model.zero_grad()
    UPGrad(one.tasks, one.model).backward(losses(one), None)
    held = {id(p) for p in shared}
    for name, parameter in one.model.named_parameters():
        if id(parameter) not in held and parameter.grad is not None:
            assert torch.allclose(parameter.grad, plain[name]), name
    assert all(p.grad is not None for p in shared)
    got = torch.cat([p.grad.flatten() for p in shared if p.grad is not None])
    assert torch.allclose(got, 3 * LibraryUPGrad()(jacobian), atol=1e-5)


@pytest.mark.parametrize("kind", [PCGrad, UPGrad])
def test_a_conflict_is_not_resolved_against_a_task(kind: type[PCGrad] | type[UPGrad]) -> None:
    """Two opposed tasks: the step on the shared layers has no negative product with either gradient."""
    one = example("shared_bottom")
    shared = shared_parameters(one.model)
    values = one.rows.values.clone()
    values[:, 1] = 1 - values[:, 0]  # like becomes the opposite of click
    weights = torch.ones_like(one.rows.weights)
    weights[:, 2] = 0
    found = one.losses(one.model.run(one.rows), values, weights)
    gradients = task_gradients(found, shared)[:2]
    kind(one.tasks, one.model).backward(found, None)
    step = torch.cat([p.grad.flatten() for p in shared if p.grad is not None])
    assert (gradients @ step >= -1e-6).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6), tight=st.floats(0, 1))
def test_pareto_weights_meet_the_bounds_and_no_feasible_point_is_better(seed: int, k: int, tight: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(k, 8)) * rng.exponential(1, (k, 1))
    gram, bounds = rows @ rows.T, rng.dirichlet(np.ones(k)) * tight
    w = pareto_weights(gram, bounds)
    assert w.sum() == pytest.approx(1, abs=1e-6)
    assert (w >= bounds - 1e-9).all()
    others = bounds + (1 - bounds.sum()) * rng.dirichlet(np.ones(k), 300)
    best = float(np.einsum("nk,kl,nl->n", others, gram, others).min())
    assert w @ gram @ w <= best * (1 + 1e-5) + 1e-9


@pytest.mark.parametrize("name", balance.BALANCERS)
@pytest.mark.parametrize("model", ["shared_bottom", "ple"])
def test_every_balancer_trains(name: str, model: str) -> None:
    one = example(model)
    one.model.train()
    balancer = balance.make(name, one.tasks, one.model)
    optimiser = torch.optim.Adam([*one.model.parameters(), *balancer.parameters()], 0.01)
    seen = []
    for step in range(30):
        if step % 10 == 0:
            balancer.start_epoch(step // 10)
        outputs = one.model.run(one.rows)
        found = one.losses(outputs, one.rows.values, one.rows.weights)
        optimiser.zero_grad()
        balancer.backward(found, outputs.aux)
        optimiser.step()
        seen.append(found.sum().item())
    assert seen[-1] < 0.85 * seen[0]
    assert set(balancer.weights()) == set(NAMES)


@pytest.mark.parametrize("name", balance.BALANCERS)
def test_state_survives_a_restart(name: str) -> None:
    """A balancer restored from its state weighs the next step as the first one does."""

    def step(one: Example, balancer: balance.Balancer) -> None:
        torch.manual_seed(1)
        one.model.zero_grad()
        balancer.backward(losses(one), None)

    one = example("shared_bottom")
    first, second = (balance.make(name, one.tasks, one.model) for _ in range(2))
    for epoch in range(3):
        first.start_epoch(epoch)
        step(one, first)
    second.load_state_dict(first.state_dict())
    for balancer in (first, second):
        balancer.start_epoch(3)
        step(one, balancer)
    assert first.weights() == second.weights()


def test_wrong_settings_are_named() -> None:
    one = example()
    for name, options, what in (
        ("nothing", {}, "unknown balance 'nothing'"),
        ("decay", {"gamma": {"buy": 0.5}}, "unknown task 'buy'"),
        ("decay", {"gamma": -1.0}, "above 0"),
        ("dwa", {"temperature": 0.0}, "temperature"),
        ("gradnorm", {"rate": 0.0}, "rate"),
        ("pareto", {"bounds": {"click": 0.7, "like": 0.7}}, "bounds sum to 1.4"),
        ("fixed", {"heavy": 1}, "options"),
    ):
        with pytest.raises(ConfigError, match=what):
            balance.make(name, one.tasks, one.model, options)
