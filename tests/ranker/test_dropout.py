"""Dropout by bytes: the share it says, the mean kept, gradients of what stayed, nothing in evaluation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from ranker.dropout import Dropout, kept, mask_like


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_share_mean_and_gradient(p: float) -> None:
    torch.manual_seed(0)
    layer, h = Dropout(p), torch.ones(400, 501, requires_grad=True)
    out = layer(h)
    stays = layer.kept / 256
    n = h.numel()
    assert abs(stays - (1 - p)) <= 1 / 512
    assert float((out > 0).float().mean()) == pytest.approx(stays, abs=4 * (stays * (1 - stays) / n) ** 0.5)
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0, 1 / stays])
    torch.autograd.backward(out.sum())
    assert torch.equal(h.grad if h.grad is not None else h, out)


def test_draws_of_neighbours_do_not_depend_on_each_other() -> None:
    """The eight entries of one draw are as independent as any others."""
    torch.manual_seed(1)
    mask = mask_like(torch.empty(100_000, 8), 128).float()
    correlation = torch.corrcoef(mask.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / 100_000**0.5


def test_evaluation_changes_nothing_and_the_generator_decides() -> None:
    layer, h = Dropout(0.4), torch.randn(7, 3)
    assert torch.equal(layer.eval()(h), h)
    layer.train()
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(layer(h))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(Dropout(0.001)(h), h)  # less than half of 1/256 is none


@given(st.floats(0, 1, exclude_max=True))
def test_something_always_stays(p: float) -> None:
    assert 1 <= kept(p) <= 256


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_share_outside_its_range_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=r"dropout .* must lie in \[0, 1\)"):
        Dropout(p)
