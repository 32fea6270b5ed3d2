"""Hashing that agrees with GrowthBook's SDK: a unit's place in [0, 1), bucket ranges, namespaces; one unit or a million."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.arrays import AnyArray, Floats, Ints
from core.errors import DataError

Range = tuple[float, float]
Texts = tuple[Ints, AnyArray]  # offsets [n + 1] and UTF-8 bytes
_F = TypeVar("_F", bound=Callable[..., Any])
_OFFSET = 0x811C9DC5
_PRIME = 0x01000193


def compiled(function: _F) -> _F:
    """`numba.njit` with its types kept."""
    return cast(_F, numba.njit(cache=True, nogil=True)(function))


def fnv1a32(text: str, state: int = _OFFSET) -> int:
    """FNV-1a, 32 bit, over UTF-8; `state` continues an earlier text.

    >>> fnv1a32("hello") == fnv1a32("llo", fnv1a32("he")) == 0x4F9F2CAB
    True
    """
    for byte in text.encode():
        state = ((state ^ byte) * _PRIME) & 0xFFFFFFFF
    return state


def unit_hash(seed: str, value: str, version: int = 2) -> float | None:
    """Where a unit falls in [0, 1): 10,000 places in version 2, 1,000 in version 1; None for an unknown version.

    Version 1 hashes `value + seed` once, so two seeds give dependent places; everything of ours uses version 2.

    >>> unit_hash("seed", "a"), unit_hash("", "a", 1), unit_hash("", "a", 99)
    (0.0505, 0.22, None)
    """
    if version == 2:
        return fnv1a32(str(fnv1a32(seed + value))) % 10_000 / 10_000
    if version == 1:
        return fnv1a32(value + seed) % 1_000 / 1_000
    return None


def equal_weights(n: int) -> list[float]:
    """`n` equal weights; empty for n < 1."""
    return [1 / n] * n if n > 0 else []


def bucket_ranges(n: int, coverage: float = 1.0, weights: Sequence[float] | None = None) -> list[Range]:
    """The range of every arm: it starts where the weights say and is `coverage` of its full width.

    An arm therefore grows from its own left edge when coverage rises, and no unit changes arm. As in GrowthBook's SDK,
    weights of another length or a sum outside [.99, 1.01] become equal weights (a plan refuses them long before).

    >>> bucket_ranges(2, 0.5)
    [(0.0, 0.25), (0.5, 0.75)]
    """
    coverage = min(max(coverage, 0.0), 1.0)
    if weights is None or len(weights) != n or not 0.99 <= sum(weights) <= 1.01:
        weights = equal_weights(n)
    left = 0.0
    ranges = []
    for weight in weights:
        ranges.append((left, left + coverage * weight))
        left += weight
    return ranges


def choose(place: float, ranges: Sequence[Range]) -> int:
    """The first arm whose `[low, high)` holds the place; -1 for none.

    >>> choose(0.4, [(0.0, 0.25), (0.5, 0.75)])
    -1
    """
    return next((arm for arm, (low, high) in enumerate(ranges) if low <= place < high), -1)


def in_namespace(value: str, namespace: str, low: float, high: float) -> bool:
    """Whether a unit lies in part `[low, high)` of a namespace (version 1, as the standard has it)."""
    place = unit_hash("__" + namespace, value, 1)
    return place is not None and low <= place < high


def seed_states(seeds: Sequence[str]) -> Ints:
    """FNV states after each seed, `[n_seeds]`: what `places` continues from."""
    return np.array([fnv1a32(seed) for seed in seeds], dtype=np.int64)


def places(states: Ints, values: AnyArray | pa.Array | Sequence[str]) -> Floats:
    """Version-2 places of many units under many seeds, `[n_seeds, n]`.

    Args:
        states: `[n_seeds]`, from `seed_states`.
        values: `[n]` texts or integers; an integer is hashed as its decimal text.

    >>> places(seed_states(["seed"]), ["a", "b"]).tolist()
    [[0.0505, 0.2696]]
    """
    return places_of_texts(states, *text_buffers(values))


def places_of_texts(states: Ints, offsets: Ints, data: AnyArray) -> Floats:
    """The same from texts as `text_buffers` gives them."""
    return _places_kernel(states, offsets, data)


def place_numbers(states: Ints, value: bytes) -> Ints:
    """Version-2 places times 10,000 of one unit under many seeds, `[n_seeds]`."""
    return _one_kernel(states, np.frombuffer(value, dtype=np.uint8))


def keys64(values: AnyArray | pa.Array | pa.ChunkedArray | Sequence[str]) -> Ints:
    """A 64-bit key of every text, `[n]`: FNV-1a mixed by the SplitMix64 finaliser; what the event store joins by.

    >>> int(keys64(["a"])[0]) == int(keys64(["b", "a"])[1]), int(keys64(["a"])[0]) == int(keys64(["b"])[0])
    (True, False)
    """
    return _keys_kernel(*text_buffers(values))


def text_buffers(values: AnyArray | pa.Array | pa.ChunkedArray | Sequence[str]) -> Texts:
    """Offsets `[n + 1]` and UTF-8 bytes of texts; integers become their decimal text.

    Raises:
        DataError: A value is missing, or is neither text nor an integer.
    """
    array = values
    if not isinstance(array, (pa.Array, pa.ChunkedArray)):
        array = pa.array(array)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.string())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if len(array) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    if not (pa.types.is_integer(array.type) or pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise DataError(f"units are {array.type}; give texts or integers")
    if array.null_count:
        raise DataError(f"{array.null_count} of {len(array)} unit ids are missing; every row needs one")
    texts = pc.cast(array, pa.large_string())
    _, offsets, data = texts.buffers()
    limits = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return limits, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


@compiled
def place_number(state: int, text: AnyArray) -> int:
    """Version-2 place times 10,000 of one text (bytes) after a seed's state; for use inside compiled loops."""
    prime = np.uint32(_PRIME)
    inner = np.uint32(state)
    for byte in text:
        inner = np.uint32((inner ^ np.uint32(byte)) * prime)
    digits = np.empty(10, np.uint8)
    n = 0
    while True:
        digits[n] = 48 + inner % np.uint32(10)
        inner = np.uint32(inner // np.uint32(10))
        n += 1
        if inner == 0:
            break
    outer = np.uint32(_OFFSET)
    for i in range(n - 1, -1, -1):
        outer = np.uint32((outer ^ np.uint32(digits[i])) * prime)
    return int(outer % np.uint32(10_000))


@compiled
def _one_kernel(states: Ints, text: AnyArray) -> Ints:
    out = np.empty(states.shape[0], np.int64)
    for s in range(states.shape[0]):
        out[s] = place_number(states[s], text)
    return out


@compiled
def _places_kernel(states: Ints, offsets: Ints, data: AnyArray) -> Floats:
    n = offsets.shape[0] - 1
    out = np.empty((states.shape[0], n))
    for s in range(states.shape[0]):
        for row in range(n):
            out[s, row] = place_number(states[s], data[offsets[row] : offsets[row + 1]]) / 10_000
    return out


@compiled
def _keys_kernel(offsets: Ints, data: AnyArray) -> Ints:
    n = offsets.shape[0] - 1
    out = np.empty(n, np.int64)
    for row in range(n):
        state = np.uint64(0xCBF29CE484222325)
        for i in range(offsets[row], offsets[row + 1]):
            state = (state ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
        out[row] = np.int64(state)
    return out
