"""Counter-based random streams: every number is a hash of who draws it and when, so a batch of any size draws the same.

A stream is named by a key (seed, purpose, user, session, step ...); its k-th word is SplitMix64 (Steele, Lea and Flood 2014) at
counter k. There is no state to carry, so users can be simulated in any order, batch or process with the same result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from core.arrays import Floats32

Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_FOLD = np.uint64(0xD1342543DE82EF95)
_NORMALS: Floats32 = ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)


def key(*parts: npt.ArrayLike) -> Words:
    """Fold whole numbers (scalars or equally shaped arrays) into stream keys; order matters, negatives are allowed.

    >>> bool(key(1, 2) == key(2, 1)), key(7, np.arange(3)).shape
    (False, (3,))
    """
    folded: Words = np.array(_GOLDEN, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            value = np.asarray(part)
            value = value if value.dtype == np.uint64 else value.astype(np.int64).astype(np.uint64)
            folded = np.array((folded * _FOLD + value + _GOLDEN) ^ (folded >> np.uint64(29)), np.uint64)
            mix(folded, np.empty_like(folded))
    return folded


def words(keys: Words, n: int, out: Words | None = None, scratch: Words | None = None) -> Words:
    """The first `n` words of each stream: `[B]` keys give `[B, n]`. `out` and `scratch` save the allocation."""
    with np.errstate(over="ignore"):
        block = np.add(keys[:, None], np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN, out=out)
        return mix(block, np.empty_like(block) if scratch is None else scratch)


def mix(block: Words, scratch: Words) -> Words:
    """SplitMix64's finaliser, in place; `scratch` has the block's shape."""
    with np.errstate(over="ignore"):
        for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
            np.right_shift(block, np.uint64(shift), out=scratch)
            np.bitwise_xor(block, scratch, out=block)
            np.multiply(block, factor, out=block)
        np.right_shift(block, np.uint64(31), out=scratch)
        np.bitwise_xor(block, scratch, out=block)
    return block


def uniforms(block: Words) -> Floats32:
    """Two numbers strictly between 0 and 1 per word: `[..., n]` words give `[..., 2 n]`.

    >>> u = uniforms(words(key(1, np.arange(1000)), 4))
    >>> u.shape, bool(0 < u.min() < u.max() < 1), round(float(u.mean()), 2)
    ((1000, 8), True, 0.5)
    """
    halves = block.view(np.uint32) >> np.uint32(9)  # 23 bits and a half: never 0, never rounded up to 1
    uniform: Floats32 = (halves.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-23)
    return uniform


def normals(block: Words) -> Floats32:
    """Four standard normal numbers per word, each one of 65,536 equally likely quantiles: `[..., 4 n]`."""
    drawn: Floats32 = _NORMALS[block.view(np.uint16)]
    return drawn


def normal_planes(block: Words, n: int = 4) -> list[Floats32]:
    """The same numbers as `n` (up to four) arrays of the block's own shape, each contiguous."""
    quarters = block.view(np.uint16).reshape(*block.shape, 4)
    return [_NORMALS.take(quarters[..., part]) for part in range(n)]
