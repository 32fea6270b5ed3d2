"""Dropout whose mask is drawn eight entries at a time: torch's own draw takes a fifth of a small network's training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from core.errors import ConfigError

STEPS = 256  # a mask entry is kept where a random byte is below the threshold, so shares are multiples of 1/256


class Dropout(nn.Module):
    """Each hidden unit becomes 0 with a chance near `p`, the others grow so that the mean stays (Srivastava et al., JMLR 2014).

    The chance is `p` rounded to 1/256, and the others grow by exactly its inverse. Draws come from torch's global generator.

    >>> Dropout(0.3).kept  # of 256
    179
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"dropout {p!r} must lie in [0, 1)")
        self.p = p
        self.kept = kept(p)

    def forward(self, h: Tensor) -> Tensor:
        """`h` in evaluation mode, a masked and grown copy in training."""
        if not self.training or self.kept == STEPS:
            return h
        out: Tensor = _Masked.apply(h, self.kept)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return out


def kept(p: float) -> int:
    """How many of 256 bytes keep a unit; never none."""
    return max(round(STEPS * (1 - p)), 1)


def mask_like(h: Tensor, kept: int) -> Tensor:
    """Which entries stay, bool of the same shape; one 64-bit draw serves eight."""
    n = h.numel()
    words = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[:n].view(h.shape) < kept


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, kept: int) -> Tensor:
        mask = mask_like(h, kept)
        ctx.save_for_backward(mask)
        ctx.scale = STEPS / kept
        return (h * mask).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (gradients[0] * mask).mul_(ctx.scale), None
