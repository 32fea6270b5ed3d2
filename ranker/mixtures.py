"""Mixtures of experts, one pair of reader and expert at a time: what a pair touches stays in the processor's cache.

The batched forms write every weighted expert out and read it again; two levels of PLE with six experts of 128 spend 2 ms a level
and batch of 1,024 in them, 0.7 ms here (two cores with AVX2). Narrow mixtures stay batched: there each pair costs a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDE = 1 << 16  # numbers an expert gives a batch from which pairs are faster

Reads = Sequence[Sequence[int]]


def mixtures(weights: Sequence[Tensor], experts: Tensor, reads: Reads) -> Tensor:
    """out[r] = sum_m weights[r][:, m] experts[reads[r][m]]: `(R, B, H)` from experts `(E, B, H)`.

    Args:
        weights: By reader, `(B, M_r)`.
        reads: By reader, which M_r experts it reads, each of them once.

    >>> experts = torch.tensor([[[1.0]], [[2.0]], [[10.0]]])
    >>> mixtures([torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0]])], experts, [[0, 2], [1]]).flatten().tolist()
    [5.5, 2.0]
    """
    out: Tensor = _Mixtures.apply(experts, reads, *weights)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return out


def pairs_pay(experts: Tensor) -> bool:
    """Whether experts `(E, B, H)` are wide enough to be mixed pair by pair; for gradients and in float32 only."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return experts.requires_grad and experts[0].numel() >= WIDE


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, experts: Tensor, reads: Reads, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(experts, *weights)
        ctx.reads = reads
        out = experts.new_empty(len(reads), *experts.shape[1:])
        for mixture, weight, read in zip(out, weights, reads, strict=True):
            torch.mul(experts[read[0]], weight[:, :1], out=mixture)
            for at, e in enumerate(read[1:], 1):
                mixture.addcmul_(experts[e], weight[:, at : at + 1])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        experts, *weights = ctx.saved_tensors
        of_experts, of_weights = torch.empty_like(experts), [torch.empty_like(w) for w in weights]
        met: set[int] = set()
        for g, weight, of_weight, read in zip(gradients[0], weights, of_weights, ctx.reads, strict=True):
            for at, e in enumerate(read):
                share = weight[:, at : at + 1]  # (B, 1)
                if e in met:
                    of_experts[e].addcmul_(g, share)
                else:
                    torch.mul(g, share, out=of_experts[e])
                of_weight[:, at] = torch.linalg.vecdot(g, experts[e])
                met.add(e)
        for e in set(range(len(experts))) - met:
            of_experts[e] = 0
        return (of_experts, None, *of_weights)
