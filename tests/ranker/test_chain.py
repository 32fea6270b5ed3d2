"""Experts block by block are the batched experts: same values, same gradients, same dropout in expectation."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from ranker import chain as module
from ranker.chain import chain
from ranker.experts import BatchedMLP
from ranker.models import MODELS
from tests.ranker.passes import one_pass

N, ROWS, WIDTHS = 3, 7, (5, 4, 2)


def parameters(seed: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, WIDTHS[0], generator=g, dtype=torch.float64)
    weights = [torch.randn(N, a, b, generator=g, dtype=torch.float64) for a, b in pairwise(WIDTHS)]
    biases = [torch.randn(N, 1, b, generator=g, dtype=torch.float64) for b in WIDTHS[1:]]
    return x, weights, biases


def plain(x: Tensor, *rest: Tensor) -> Tensor:
    h = x.expand(N, -1, -1)
    for weight, bias in zip(rest[:2], rest[2:], strict=True):
        h = torch.relu(h @ weight + bias)
    return h


@pytest.mark.parametrize("each", [False, True], ids=["one input", "an input each"])
def test_values_and_gradients_are_those_of_the_batched_form(each: bool) -> None:
    x, weights, biases = parameters(0)
    if each:
        x = torch.stack([x + e for e in range(N)])
    given = [t.requires_grad_() for t in (x, *weights, *biases)]
    ours, wanted = chain(x, weights, biases), plain(*given)
    assert torch.allclose(ours, wanted)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for a, b in zip(torch.autograd.grad(ours, given, pull), torch.autograd.grad(wanted, given, pull), strict=True):
        assert torch.allclose(a, b)


def test_experts_that_read_the_same_block_add_their_gradients() -> None:
    x, weights, biases = parameters(4)
    blocks, reads = torch.stack([x, x.flip(0)]), [1, 0, 1]
    given = [t.requires_grad_() for t in (blocks, *weights, *biases)]
    ours, wanted = chain(blocks, weights, biases, reads=reads), plain(blocks[reads], *weights, *biases)
    assert torch.allclose(ours, wanted)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for a, b in zip(torch.autograd.grad(ours, given, pull), torch.autograd.grad(wanted, given, pull), strict=True):
        assert torch.allclose(a, b)


def test_gradients_hold_against_differences_of_the_function() -> None:
    x, weights, biases = parameters(2)
    given = [t.requires_grad_() for t in (x, *weights, *biases)]
    assert torch.autograd.gradcheck(lambda *t: chain(t[0], t[1:3], t[3:]), given)


def test_dropout_keeps_the_mean_and_its_gradient_is_of_what_was_kept() -> None:
    torch.manual_seed(0)
    x, weights = torch.ones(1, 1), [torch.ones(2, 1, 20_000, requires_grad=True)]
    out = chain(x, weights, [torch.zeros(2, 1, 20_000)], dropout=0.25)
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert float(out.detach().mean()) == pytest.approx(1, abs=0.02)
    torch.autograd.backward(out.sum())
    assert weights[0].grad is not None
    assert torch.equal(weights[0].grad.flatten(), out.flatten())  # d out / d w is 0 where dropped, 4/3 where kept


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_trains_alike_both_ways(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for wide in (1, 1 << 40):
        monkeypatch.setattr(module, "WIDE", wide)
        found.append(one_pass(name))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_narrow_experts_and_serving_stay_batched(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*given: Any) -> Tensor:
        calls.append(len(given))
        return chain(*given)

    monkeypatch.setattr("ranker.experts.chain", counted)
    mlp = BatchedMLP(4, 8, [512])
    for rows, training, wanted in ((8, True, 0), (256, False, 0), (256, True, 1)):
        mlp.train(training)
        with torch.set_grad_enabled(training):
            mlp(torch.ones(4, rows, 8))
        assert len(calls) == wanted
