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


def chain(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    dropout: float = 0.0,
    reads: Sequence[int] | None = None,
) -> Tensor:
    """Each layer relu(h W + b), then dropout, for E experts: `(E, B, H)` from an input `(B, D)` of all or `(E, B, D)` of each.

    Args:
        weights, biases: By layer, `(E, D, H)` (any strides over the experts) and `(E, 1, H)`.
        reads: Which block of an input `(R, B, D)` each expert reads, where several read the same.

    >>> chain(torch.tensor([[1.0, -1.0]]), [torch.tensor([[[2.0], [1.0]], [[0.0], [3.0]]])], [torch.zeros(2, 1, 1)]).tolist()
    [[[1.0]], [[0.0]]]
    """
    out: Tensor = _Chain.apply(x, dropout, reads, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]  # untyped in torch
    return out


def pays(n_experts: int, n_rows: int, width: int) -> bool:
    """Whether a layer of these widths, in training and in float32, is faster block by block."""
    return (
        n_experts > 1 and n_experts * n_rows * width >= WIDE and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    )


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float, reads: Sequence[int] | None, n_layers: int, *parameters: Tensor) -> Tensor:
        weights, biases, stays = parameters[:n_layers], parameters[n_layers:], kept(dropout)
        n, rows = weights[0].shape[0], x.shape[-2]
        layers = [x.new_empty(n, rows, w.shape[2]) for w in weights]
        of_each = [[t.unbind(0) for t in ts] for ts in zip(weights, biases, layers, strict=True)]  # views, made once
        for e, h in enumerate(_inputs(x, n, reads)):
            for weight, bias, out in of_each:
                torch.mm(h, weight[e], out=out[e])
                h = out[e].add_(bias[e]).relu_()  # (B, H)
                if stays < STEPS:
                    h.mul_(mask_like(h, stays)).mul_(STEPS / stays)
        ctx.save_for_backward(x, *weights, *layers)
        ctx.stays, ctx.reads, ctx.n_layers = stays, reads, n_layers
        return layers[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        weights, layers = rest[: ctx.n_layers], rest[ctx.n_layers :]
        n, last = weights[0].shape[0], ctx.n_layers - 1
        given = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        inputs, of_inputs = _inputs(x, n, ctx.reads), None if given is None else _inputs(given, n, ctx.reads)
        of_weights = [torch.empty_like(w) for w in weights]  # strides kept, so that nothing is copied on the way to the parameter
        of_biases = [w.new_empty(w.shape[0], 1, w.shape[2]) for w in weights]
        above = [w.transpose(1, 2).unbind(0) for w in weights]  # views, made once
        outs = [h.unbind(0) for h in layers]
        below = [[h.T for h in inputs], *(h.transpose(1, 2).unbind(0) for h in layers[:-1])]
        into = [w.unbind(0) for w in of_weights]
        into_biases = [b.squeeze(1).unbind(0) for b in of_biases]
        for e, g in enumerate(gradients[0].unbind(0)):  # (B, H) of the last layer
            for at in range(last, -1, -1):
                own = torch.empty_like(g) if at == last else g  # what was handed in is not ours to change
                g = torch.ops.aten.threshold_backward.grad_input(g, outs[at][e], 0, grad_input=own)  # 0 where the layer gave 0
                if ctx.stays < STEPS:
                    g.mul_(STEPS / ctx.stays)
                torch.mm(below[at][e], g, out=into[at][e])
                torch.sum(g, 0, out=into_biases[at][e])
                if at:
                    g = torch.mm(g, above[at][e])  # (B, D)
                elif of_inputs is not None:
                    of_inputs[e].addmm_(g, above[0][e])
        return (given, None, None, None, *of_weights, *of_biases)


def _inputs(x: Tensor, n: int, reads: Sequence[int] | None) -> Sequence[Tensor]:
    """What each of n experts reads, `(B, D)`: views of x."""
    if x.ndim == 2:
        return [x] * n
    return x.unbind(0) if reads is None else [x[r] for r in reads]
