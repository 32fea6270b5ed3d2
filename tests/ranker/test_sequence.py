"""Sequence layers against their equations, written out step by step."""

import pytest
import torch
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.checks import TASKS, Example, example_spec
from ranker.models import make
from ranker.sequence import AttentionPooling, MaxConvolution, PropertyGatedLSTM, TargetAttention, aligned, unpooled


def test_property_gated_lstm_follows_its_equations() -> None:
    torch.manual_seed(0)
    e, p, hidden = torch.randn(3, 4, 5), torch.randn(3, 4, 2), 6
    layer = PropertyGatedLSTM(5, 2, hidden)
    w = dict(layer.lstm.named_parameters())
    w_i, w_f, w_c, w_o = w["weight_ih_l0"].view(4, hidden, -1)
    u_i, u_f, u_c, u_o = w["weight_hh_l0"].view(4, hidden, -1)
    b_i, b_f, b_c, b_o = (w["bias_ih_l0"] + w["bias_hh_l0"]).view(4, hidden)
    h = c = torch.zeros(3, hidden)
    steps = []
    for t in range(4):
        x = torch.cat([e[:, t], p[:, t]], 1)
        i = torch.sigmoid(x @ w_i.T + h @ u_i.T + b_i)
        f = torch.sigmoid(x @ w_f.T + h @ u_f.T + b_f)
        o = torch.sigmoid(x @ w_o.T + h @ u_o.T + b_o)
        candidate = torch.tanh(e[:, t] @ w_c[:, :5].T + h @ u_c.T + b_c)  # without p
        c = f * c + i * candidate
        h = o * torch.tanh(c)
        steps.append(h)
    assert torch.allclose(layer(e, p), torch.stack(steps, 1), atol=1e-6)


def test_the_candidate_learns_nothing_from_the_property() -> None:
    layer = PropertyGatedLSTM(5, 2, 6)
    layer(torch.randn(3, 4, 5), torch.randn(3, 4, 2)).sum().backward()
    grad = layer.lstm.get_parameter("weight_ih_l0").grad
    assert grad is not None
    assert not grad[12:18, 5:].any()
    assert grad[:12, 5:].any()


def test_padding_changes_no_earlier_step() -> None:
    layer = PropertyGatedLSTM(3, 1, 4)
    e, p = torch.randn(1, 5, 3), torch.randn(1, 5, 1)
    assert torch.allclose(layer(e, p)[:, :3], layer(e[:, :3], p[:, :3]), atol=1e-6)


def test_attention_pooling_is_a_masked_softmax_of_the_scores() -> None:
    torch.manual_seed(1)
    layer = AttentionPooling(4, 2, 3, 8)
    h, p, query = torch.randn(2, 3, 4), torch.randn(2, 3, 2), torch.randn(2, 3)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    pooled, attention = layer(h, p, query, mask)
    assert layer.of_query is not None
    keys = layer.of_step(torch.cat([h[0, :2], p[0, :2]], 1)) + layer.of_query(query[0])
    scores = torch.softmax(layer.v(torch.tanh(keys))[:, 0], 0)
    assert torch.allclose(attention[0], torch.cat([scores, torch.zeros(1)]), atol=1e-6)
    assert torch.allclose(pooled[0], scores @ h[0, :2], atol=1e-6)
    assert not attention[1].any()
    assert not pooled[1].any()


def test_target_attention_is_the_mlp_on_query_key_difference_product() -> None:
    """W [q, k, q - k, q k] = (W1 + W3) q + (W2 - W3) k + W4 q k."""
    torch.manual_seed(2)
    layer = TargetAttention(3, 4)
    w1, w2, w3, w4 = (torch.randn(4, 3) for _ in range(4))
    with torch.no_grad():
        layer.of_query.weight.copy_(w1 + w3)
        layer.of_key.weight.copy_(w2 - w3)
        layer.of_product.weight.copy_(w4)
    query, keys = torch.randn(5, 3), torch.randn(5, 6, 3)
    mask = torch.rand(5, 6) > 0.3
    q = query[:, None].expand_as(keys)
    whole = torch.cat([q, keys, q - keys, q * keys], -1) @ torch.cat([w1, w2, w3, w4], 1).T + layer.of_query.bias
    weight = layer.out(torch.relu(whole)).squeeze(-1) * mask
    interest, found = layer(query, keys, mask)
    assert torch.allclose(found, weight, atol=1e-5)
    assert torch.allclose(interest, (weight[..., None] * keys).sum(1), atol=1e-5)


def test_one_users_sequence_serves_all_targets() -> None:
    layer = TargetAttention(3, 4)
    query, keys, mask = torch.randn(5, 3), torch.randn(1, 6, 3), torch.ones(1, 6, dtype=torch.bool)
    shared, repeated = layer(query, keys, mask)[0], layer(query, keys.expand(5, -1, -1), mask.expand(5, -1))[0]
    assert torch.allclose(shared, repeated, atol=1e-6)


def test_max_convolution_is_one_filter_bank_a_width() -> None:
    torch.manual_seed(3)
    layer = MaxConvolution(2, 3, widths=(1, 2, 4))
    x, mask = torch.randn(4, 6, 2), torch.ones(4, 6, dtype=torch.bool)
    found = layer(x, mask)
    assert layer.convolution.bias is not None
    for at, width in enumerate((1, 2, 4)):
        rows = slice(at * 3, (at + 1) * 3)
        weight, bias = layer.convolution.weight[rows, :, :width], layer.convolution.bias[rows]
        padded = F.pad(x.transpose(1, 2), (0, width - 1))
        assert torch.allclose(found[:, rows], F.conv1d(padded, weight, bias).relu().amax(-1), atol=1e-5)
    assert not layer(x, mask & False).any()


def test_sequences_of_one_behaviour_are_told_apart_from_properties() -> None:
    layout = Example(lambda layout, tasks: make("mmoe", layout, tasks)).encoder.layout
    assert unpooled(layout) == (["history"], [])
    assert example_spec(TASKS)["history"].dim == aligned(layout, ["history"])
    with pytest.raises(ConfigError, match="pooling: none"):
        aligned(layout, ["seen"])
