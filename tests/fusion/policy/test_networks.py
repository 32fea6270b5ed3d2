"""What is deployed: nets that build themselves again, actions in range, critics whose form is what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.errors import ConfigError
from fusion.policy.networks import CRITIC_FORMS, FIRST, ActionForm, Joint, Standardise, build, constant, critics

CONFIGS: dict[str, dict[str, Any]] = {
    "constant": {"kind": "constant", "n_obs": 4, "n_params": 3},
    "linear": {"kind": "actor", "n_obs": 4, "n_params": 3, "hidden": []},
    "actor": {"kind": "actor", "n_obs": 4, "n_params": 3, "hidden": [8, 8]},
    "gaussian": {"kind": "actor", "n_obs": 4, "n_params": 3, "hidden": [8], "std": True},
    "bcq": {"kind": "bcq", "n_obs": 4, "n_params": 3, "hidden": [8]},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_net_built_again_from_its_config_and_state_acts_alike(name: str) -> None:
    net = build(CONFIGS[name])
    again = build(net.to_config())
    again.load_state_dict(net.state_dict())
    obs = 10 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, second = (n.act(obs, torch.Generator().manual_seed(2)) for n in (net, again))
    assert first.shape == (6, 3)
    assert torch.equal(first, second)
    assert first.abs().max().item() <= 1.0


def test_a_constant_is_constant() -> None:
    net = constant([0.5, -1.0], n_obs=4)
    assert net.act(torch.randn(3, 4)).tolist() == [[0.5, -1.0]] * 3


def test_what_is_unknown_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown policy net 'dqn'; nets are constant"):
        build({"kind": "dqn"})
    with pytest.raises(ConfigError, match="unexpected keyword argument 'width'"):
        build({"kind": "constant", "n_obs": 1, "n_params": 1, "width": 3})
    with pytest.raises(ConfigError, match="unknown critic 'cubic'; critics are mlp"):
        critics("cubic", 1, 1, [4], 2)


def test_standardising_keeps_constant_columns() -> None:
    table = torch.tensor([[1.0, 7.0], [3.0, 7.0]])
    standardise = Standardise(2)
    standardise.fit(table)
    assert standardise(table).tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_asking_one_member_or_some_rows_gives_the_same_numbers() -> None:
    net = Joint(4, 3, [8, 6], 2, 3)
    state, other = torch.randn(5, 4), torch.randn(5, 7, 3)
    with torch.no_grad():
        every = net(state, other)
        assert torch.allclose(net(state, other, slice(1, 2))[0], every[1], atol=1e-6)
        row, column = torch.tensor([0, 4, 4]), torch.tensor([6, 0, 3])
        assert torch.allclose(net.rows(state, other[row, column], row, 2), every[2, row, column], atol=1e-6)
        for form in CRITIC_FORMS:
            pair = critics(form, 4, 3, [8], 2, ranges=[[0.0] * 3, [1.0] * 3])
            assert torch.allclose(pair(state, other, FIRST)[0], pair(state, other)[0], atol=1e-6)


def test_a_direction_critic_sees_no_scale() -> None:
    net = critics("direction", 2, 3, [4], 2, ranges=[[0.0, 0.0, -5.0], [10.0, 1.0, 0.0]])
    assert isinstance(net, ActionForm)
    torch.nn.init.normal_(net.tilt_weight)
    weights = torch.tensor([[1.0, 0.2, -0.4], [10.0, 1.0, -5.0]])
    weights[0], weights[1] = weights[1] * 0.3, weights[1]  # the same list, a third as large
    low, high = torch.tensor([0.0, 0.0, -5.0]), torch.tensor([10.0, 1.0, 0.0])
    action = (2 * (weights - low) / (high - low) - 1)[:, None]
    with torch.no_grad():
        q = net(torch.ones(2, 2), action)[:, :, 0, 0]
    assert torch.allclose(q[:, 0], q[:, 1], atol=1e-5)


@pytest.mark.parametrize("form", CRITIC_FORMS)
def test_every_form_answers_for_every_action(form: str) -> None:
    net = critics(form, 4, 3, [8], 2, gate=[1], ranges=[[0.0] * 3, [1.0] * 3])
    assert net(torch.randn(5, 4), torch.rand(5, 6, 3)).shape == (2, 5, 6, 1)


def test_a_direction_critic_without_ranges_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs the ranges"):
        critics("direction", 4, 3, [8], 2)
