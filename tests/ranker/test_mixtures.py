"""Mixtures pair by pair are the batched mixtures: same values, same gradients, and every architecture trains alike both ways."""

import pytest
import torch
from torch import Tensor

from ranker import mixtures as module
from ranker.experts import mix
from ranker.mixtures import mixtures, pairs_pay
from ranker.models import MODELS
from ranker.models.cgc import blend
from tests.ranker.passes import one_pass

N, ROWS, WIDTH = 4, 5, 3
READS = [[0, 2], [3, 0, 2], [2]]  # nobody reads expert 1


def given(seed: int) -> tuple[Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(seed)
    experts = torch.randn(N, ROWS, WIDTH, generator=g, dtype=torch.float64, requires_grad=True)
    return experts, [torch.rand(ROWS, len(r), generator=g, dtype=torch.float64, requires_grad=True) for r in READS]


def plain(experts: Tensor, weights: list[Tensor]) -> Tensor:
    return torch.stack([torch.einsum("bm,mbh->bh", w, experts[r]) for w, r in zip(weights, READS, strict=True)])


def test_values_and_gradients_are_those_of_the_sums() -> None:
    experts, weights = given(0)
    ours, wanted = mixtures(weights, experts, READS), plain(experts, weights)
    assert torch.allclose(ours, wanted)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [experts, *weights]
    for a, b in zip(torch.autograd.grad(ours, inputs, pull), torch.autograd.grad(wanted, inputs, pull), strict=True):
        assert torch.allclose(a, b)


def test_gradients_hold_against_differences_of_the_function() -> None:
    experts, weights = given(2)
    assert torch.autograd.gradcheck(lambda e, *w: mixtures(w, e, READS), [experts, *weights])


def test_own_and_shared_experts_blend_alike_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(3)
    experts = torch.randn(7, ROWS, WIDTH, generator=g, requires_grad=True)  # two of each of two tasks, three shared
    gate, of_all = torch.rand(ROWS, 2, 5, generator=g), torch.rand(ROWS, 7, generator=g)
    found = []
    for wide in (1, 1 << 40):
        monkeypatch.setattr(module, "WIDE", wide)
        found.append((blend(gate, experts, 2, of_all), blend(gate, experts, 2), mix(gate, experts[:5])))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(found[0][0][2], torch.einsum("be,ebh->bh", of_all, experts), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_trains_alike_both_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for wide in (1, 1 << 40):
        monkeypatch.setattr(module, "WIDE", wide)
        found.append(one_pass(name))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_narrow_experts_serving_and_low_precision_stay_batched() -> None:
    wide = torch.ones(2, 512, 128, requires_grad=True)
    assert pairs_pay(wide)
    assert not pairs_pay(wide[:, :8])
    with torch.no_grad():
        assert not pairs_pay(wide * 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pairs_pay(wide)
