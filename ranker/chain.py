"""Wide experts one after another: what one expert writes is read again while it is still in the processor's cache.

A batch of a million hidden numbers does not fit there, so every pass over all experts at once (bias, ReLU, its derivative, the
sums for the biases) goes through memory; block by block only the matrix products remain. Eight experts of 512 and 128 take 88 ms
a batch of 1,024 so, and 122 ms batched (one core with AVX2). Narrow experts stay one batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ranker.dropout import STEPS, kept, mask_like

WIDE = 1 << 19  # hidden numbers a batch from which blocks are faster: 2 MiB


def chain(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], dropout: float = 0.0) -> Tensor:
    """Each layer relu(h W + b), then dropout, for E experts: `(E, B, H)` from an input `(B, D)` of all or `(E, B, D)` of each.

    Args:
        weights, biases: By layer, `(E, D, H)` (any strides over the experts) and `(E, 1, H)`.

    >>> chain(torch.tensor([[1.0, -1.0]]), [torch.tensor([[[2.0], [1.0]], [[0.0], [3.0]]])], [torch.zeros(2, 1, 1)]).tolist()
    [[[1.0]], [[0.0]]]
    """
    out: Tensor = _Chain.apply(x, dropout, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


def pays(n_experts: int, n_rows: int, width: int) -> bool:
    """Whether a layer of these widths, in training and in float32, is faster block by block."""
    return (
        n_experts > 1 and n_experts * n_rows * width >= WIDE and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    )


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float, n_layers: int, *parameters: Tensor) -> Tensor:
        weights, biases, stays = parameters[:n_layers], parameters[n_layers:], kept(dropout)
        n, rows = weights[0].shape[0], x.shape[-2]
        layers = [x.new_empty(n, rows, w.shape[2]) for w in weights]
        for e in range(n):
            h = x if x.ndim == 2 else x[e]  # (B, D)
            for weight, bias, out in zip(weights, biases, layers, strict=True):
                torch.mm(h, weight[e], out=out[e])
                h = out[e].add_(bias[e]).relu_()  # (B, H)
                if stays < STEPS:
                    h.mul_(mask_like(h, stays)).mul_(STEPS / stays)
        ctx.save_for_backward(x, *weights, *layers)
        ctx.stays, ctx.n_layers = stays, n_layers
        return layers[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        weights, layers = rest[: ctx.n_layers], rest[ctx.n_layers :]
        given = (torch.zeros_like if x.ndim == 2 else torch.empty_like)(x) if ctx.needs_input_grad[0] else None
        of_weights = [torch.empty_like(w) for w in weights]  # strides kept, so that nothing is copied on the way to the parameter
        of_biases = [w.new_empty(w.shape[0], 1, w.shape[2]) for w in weights]
        for e in range(weights[0].shape[0]):
            g = gradients[0][e]  # (B, H) of the last layer
            for at in reversed(range(ctx.n_layers)):
                below = layers[at - 1][e] if at else x if x.ndim == 2 else x[e]
                own = torch.empty_like(g) if at == ctx.n_layers - 1 else g  # what was handed in is not ours to change
                g = torch.ops.aten.threshold_backward.grad_input(g, layers[at][e], 0, grad_input=own)  # 0 where the layer gave 0
                if ctx.stays < STEPS:
                    g.mul_(STEPS / ctx.stays)
                torch.mm(below.T, g, out=of_weights[at][e])
                torch.sum(g, 0, out=of_biases[at][e, 0])
                if at:
                    g = g @ weights[at][e].T  # (B, D)
                elif given is not None and x.ndim == 2:
                    given.addmm_(g, weights[0][e].T)
                elif given is not None:
                    torch.mm(g, weights[0][e].T, out=given[e])
        return (given, None, None, *of_weights, *of_biases)
