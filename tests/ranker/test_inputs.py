"""The input block: one lookup a table, the same gradient as the library's, padding that stays zero."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from ranker import checks
from ranker.inputs import InputLinear, LookUp, Parts
from ranker.models.shared_bottom import SharedBottom


@pytest.mark.parametrize("sparse", [False, True])
def test_gradient_equals_the_librarys_and_spares_padding(sparse: bool) -> None:
    weight = torch.randn(6, 3, requires_grad=True)
    ids = torch.tensor([[1, 0, 5], [5, 5, 0]], dtype=torch.int32)
    upstream = torch.randn(2, 3, 3)
    torch.autograd.backward(F.embedding(ids, weight, padding_idx=0), upstream)
    wanted = weight.grad
    weight.grad = None
    look_up: Callable[..., torch.Tensor] = LookUp.apply
    torch.autograd.backward(look_up(weight, ids, sparse), upstream)
    assert weight.grad is not None
    assert wanted is not None
    assert torch.allclose(weight.grad.to_dense() if sparse else weight.grad, wanted)


def test_sides_one_by_one_make_the_joint_input() -> None:
    example = checks.Example(SharedBottom)
    joint = example.model.inputs.joint(example.rows.ids, example.rows.dense, example.rows.lists)
    user, item = (example.predictor.encode(side, example.log.columns) for side in ("user", "item"))
    request = example.predictor.encode("request", example.log.columns)
    assert torch.allclose(joint.context, torch.cat([user.x, request.x], 1))
    assert torch.allclose(joint.item, item.x)


def test_linear_split_by_hand() -> None:
    layer = InputLinear(1, 1, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0], [3.0]]))
        layer.bias.fill_(1.0)
    user, items = torch.tensor([[10.0]]), torch.tensor([[1.0], [2.0]])
    assert layer(Parts(user, items)).ravel().tolist() == [24, 27]
    assert layer(Parts(user.expand(2, 1), items)).ravel().tolist() == [24, 27]


def test_masked_weights_read_nothing() -> None:
    layer = InputLinear(1, 1, 1, mask=torch.tensor([[0.0], [1.0]]))
    a, b = (layer(Parts(torch.full((2, 1), value), torch.ones(2, 1))) for value in (1.0, 99.0))
    assert torch.equal(a, b)
