"""Boosted ranking trees as they are served: flat arrays, proved monotone when loaded, summed without a branch.

A tree answers by ANDing one bit mask a feature: the masks of a value's bin keep the leaves that it can still reach, and the
lowest bit left is the leaf (QuickScorer, Lucchese et al. 2015, with the masks of all bins made beforehand).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np

from core.arrays import AnyArray, Floats, Ints
from core.errors import ArtefactError
from fusion.calibrate import Calibration
from fusion.jit import compiled, fast
from fusion.learned.base import LearnedStrategy
from fusion.learned.inputs import Inputs

MAX_LEAVES: Final = 32  # bits of a mask
_DE_BRUIJN: Final = 0x077CB531  # its top five bits differ for every single bit it is multiplied with


class Forest(NamedTuple):
    """Trees one after another: `x[feature] <= threshold` goes left; a child below 0 is leaf `-1 - child` of its tree.

    Shapes: feature, threshold, left, right `[N]` of inner nodes; leaf `[L]`; nodes, leaves `[n_trees + 1]` where trees start.
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    leaf: Floats
    nodes: Ints
    leaves: Ints

    @classmethod
    def empty(cls) -> Forest:
        """No trees yet."""
        none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
        return cls(none, np.zeros(0), none, none, np.zeros(0), zero, zero)

    def plus(self, other: Forest) -> Forest:
        """These trees, then the others."""
        joined = [np.concatenate([a, b]) for a, b in zip(self[:5], other[:5], strict=True)]
        starts = [np.concatenate([a, a[-1] + b[1:]]) for a, b in zip(self[5:], other[5:], strict=True)]
        return Forest(*joined, *starts)

    def part(self, first: int, last: int) -> Forest:
        """Trees `first` up to but without `last`."""
        (a, b), (c, d) = self.nodes[[first, last]], self.leaves[[first, last]]
        nodes, leaves = self.nodes[first : last + 1] - a, self.leaves[first : last + 1] - c
        return Forest(self.feature[a:b], self.threshold[a:b], self.left[a:b], self.right[a:b], self.leaf[c:d], nodes, leaves)

    @property
    def n_trees(self) -> int:
        """How many trees."""
        return len(self.nodes) - 1


class LambdaMart(LearnedStrategy):
    """A boosted forest over task scores and context numbers, in that order of features."""

    kind: ClassVar[str] = "lambdamart"

    def __init__(self, inputs: Inputs, forest: Forest, calibration: Calibration | None = None) -> None:
        super().__init__(inputs, calibration)
        self.forest = forest
        self._n_features = len(inputs.tasks) + len(inputs.context)
        boxes = leaf_boxes(forest, self._n_features)
        signs = np.array([*inputs.signs, *(0 for _ in inputs.context)])
        worst = np.min([np.zeros(len(signs)), *(_worst_steps(*box, signs) for box in boxes)], axis=0)
        for task, step in zip(inputs.tasks, worst, strict=False):
            if step < 0:
                raise ArtefactError(f"these trees move by {step:g} against the goal of {task!r}; train them again, constrained")
        self._n_pairs = sum(len(values) * (len(values) - 1) // 2 for _, _, values in boxes)
        self._edges, self._offsets, self._masks, self._leaves = _tables(forest, self._n_features)

    def values(self, x: Floats, s: Floats) -> Floats:
        """Sums of leaves `[n]`."""
        if len(self.inputs.context):
            x = np.concatenate([x, np.broadcast_to(s, (len(x), s.shape[1]))], axis=1)
        out = np.empty(len(x))
        _sum_leaves(np.ascontiguousarray(x), self._edges, self._offsets, self._masks, self._leaves, out)
        return out

    def arrays(self) -> dict[str, AnyArray]:
        """The forest's arrays."""
        return dict(self.forest._asdict())

    @property
    def proof(self) -> str:
        """The pairs of leaves that were compared."""
        return (
            f"In each of {self.forest.n_trees} trees all pairs of leaves ({self._n_pairs:,}) were compared: where one lies above "
            "another along a task and they meet in all other inputs, its value is not on the wrong side. A sum of such trees "
            "moves with every goal, to the last bit."
        )

    @classmethod
    def from_arrays(cls, inputs: Inputs, arrays: Mapping[str, AnyArray], calibration: Calibration | None = None) -> Self:
        """The inverse of `arrays`; damaged structure is refused."""
        if set(arrays) != set(Forest._fields):
            raise ArtefactError(f"trees need the arrays {', '.join(Forest._fields)}; got {', '.join(sorted(arrays)) or 'none'}")
        return cls(inputs, Forest(**arrays), calibration)

    def __reduce__(self) -> tuple[object, ...]:
        return LambdaMart, (self.inputs, self.forest, self.calibration)


def leaf_boxes(forest: Forest, n_features: int) -> list[tuple[Floats, Floats, Floats]]:
    """For each tree, where its leaves reign: low and high ends `[L, F]` (low < x <= high), and their values `[L]`, left to right.

    Raises:
        ArtefactError: The arrays are no trees over so many features.
    """
    boxes = []
    for t in range(forest.n_trees):
        a, b = forest.leaves[t : t + 2]
        low, high, values = [], [], []
        for leaf, lows, highs in _walk(forest, t, n_features):
            low.append(lows)
            high.append(highs)
            values.append(forest.leaf[a + leaf])
        if len(values) != b - a or not np.isfinite(values).all():
            raise ArtefactError(f"tree {t} reaches {len(values)} of its {b - a} leaves, or one is not finite; publish it again")
        boxes.append((np.array(low), np.array(high), np.array(values)))
    return boxes


def _walk(forest: Forest, t: int, n_features: int) -> list[tuple[int, Floats, Floats]]:
    first, last = (int(n) for n in forest.nodes[t : t + 2])
    n_leaves = int(forest.leaves[t + 1] - forest.leaves[t])
    if not 1 <= n_leaves <= MAX_LEAVES or last - first != n_leaves - 1:
        raise ArtefactError(f"tree {t} has {n_leaves} leaves and {last - first} nodes; 1 to {MAX_LEAVES} leaves are possible")
    found: list[tuple[int, Floats, Floats]] = []
    seen: set[int] = set()
    whole = np.full(n_features, np.inf)
    waiting: list[tuple[int, Floats, Floats]] = [(0 if n_leaves > 1 else -1, -whole, whole)]
    while waiting:
        child, low, high = waiting.pop()
        if child in seen or not -n_leaves <= child < max(last - first, 1):
            raise ArtefactError(f"tree {t} is damaged: node {child} is met twice or is not there; publish it again")
        seen.add(child)
        if child < 0:
            found.append((-1 - child, low, high))
            continue
        at = first + child
        feature, threshold = int(forest.feature[at]), float(forest.threshold[at])
        if not 0 <= feature < n_features or not np.isfinite(threshold):
            raise ArtefactError(f"tree {t} is damaged: feature {feature} or threshold {threshold}; publish it again")
        below, above = high.copy(), low.copy()
        below[feature], above[feature] = min(high[feature], threshold), max(low[feature], threshold)
        waiting.append((int(forest.right[at]), above, high))
        waiting.append((int(forest.left[at]), low, below))
    return found


def _worst_steps(low: Floats, high: Floats, value: Floats, signs: Ints) -> Floats:
    """By feature `[F]`, the smallest step in its goal's direction from a leaf to one that lies above it there, at most 0."""
    meet = np.maximum(low[:, None], low[None]) < np.minimum(high[:, None], high[None])  # (L, L, F)
    elsewhere = meet.sum(axis=2, keepdims=True) - meet == len(signs) - 1  # in all other features
    above = elsewhere & (high[:, None] <= low[None])
    steps = (value[None] - value[:, None])[:, :, None] * signs  # (L, L, F)
    return np.asarray(np.where(above, steps, 0.0).min(axis=(0, 1)))


def _tables(forest: Forest, n_features: int) -> tuple[Floats, Ints, AnyArray, Floats]:
    """Sorted thresholds of all features, where each feature's start, masks `[bins, n_trees]`, and leaf values by hashed bit."""
    edges = [np.unique(forest.threshold[forest.feature == f]) for f in range(n_features)]
    offsets = np.concatenate([[0], np.cumsum([len(e) for e in edges])]).astype(np.int64)
    masks = [np.full((len(e) + 1, forest.n_trees), 2**MAX_LEAVES - 1, dtype=np.uint32) for e in edges]
    leaves = np.zeros((forest.n_trees, MAX_LEAVES))
    bit = (np.uint64(1) << np.arange(MAX_LEAVES, dtype=np.uint64)) * np.uint64(_DE_BRUIJN)
    place = ((bit & np.uint64(0xFFFFFFFF)) >> np.uint64(27)).astype(np.int64)  # where leaf i's value lies
    for t in range(forest.n_trees):
        order = [leaf for leaf, _, _ in _walk(forest, t, n_features)]
        leaves[t, place[: len(order)]] = forest.leaf[forest.leaves[t] + np.array(order)]
        position = {leaf: i for i, leaf in enumerate(order)}
        reach = _reach(forest, t, position)
        for node in range(int(forest.nodes[t + 1] - forest.nodes[t])):
            at = forest.nodes[t] + node
            f = int(forest.feature[at])
            bin_ = int(np.searchsorted(edges[f], forest.threshold[at])) + 1  # bins from here on lie above the threshold
            masks[f][bin_:, t] &= np.uint32(~reach[int(forest.left[at])] & 0xFFFFFFFF)
    return np.concatenate([*edges, np.zeros(0)]), offsets, np.concatenate(masks), leaves


def _reach(forest: Forest, t: int, position: Mapping[int, int]) -> dict[int, int]:
    """Bits of the leaves below each child, by child."""
    first = int(forest.nodes[t])
    bits: dict[int, int] = {-1 - leaf: 1 << i for leaf, i in position.items()}

    def below(child: int) -> int:
        if child not in bits:
            bits[child] = below(int(forest.left[first + child])) | below(int(forest.right[first + child]))
        return bits[child]

    if len(position) > 1:
        below(0)
    return bits


@compiled
def _bin(edges: Floats, low: int, high: int, value: float) -> int:
    """How many of edges[low:high] are below the value."""
    start = low
    while low < high:
        middle = (low + high) // 2
        if edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low - start


@fast
def _sum_leaves(x: Floats, edges: Floats, offsets: Ints, masks: AnyArray, leaves: Floats, out: Floats) -> None:
    n_trees = masks.shape[1]
    reached = np.empty(n_trees, np.uint32)
    for i in range(len(x)):
        for t in range(n_trees):
            reached[t] = np.uint32(0xFFFFFFFF)
        for f in range(x.shape[1]):
            row = masks[offsets[f] + f + _bin(edges, offsets[f], offsets[f + 1], x[i, f])]
            for t in range(n_trees):
                reached[t] &= row[t]
        total = 0.0
        for t in range(n_trees):
            bits = np.uint64(reached[t])
            lowest = bits & (~bits + np.uint64(1))
            total += leaves[t, ((lowest * np.uint64(_DE_BRUIJN)) & np.uint64(0xFFFFFFFF)) >> np.uint64(27)]
        out[i] = total
