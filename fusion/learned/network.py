"""The monotone network as it is served: one loop over the items, and no weight may be negative.

xMTF's additive form z = sum_k h_k(o_k, s) (per-task transforms h_k bent by the request's context s), with a mixing layer on top.
Half of the units are convex, half are concave: convex units alone cannot represent a sum of logarithms
(Runje & Shankaranarayana, Constrained Monotonic Neural Networks, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Final, Self

import numpy as np

from core.arrays import AnyArray, Floats
from core.errors import ArtefactError
from fusion.calibrate import Calibration
from fusion.jit import compiled
from fusion.learned.base import LearnedStrategy
from fusion.learned.inputs import Inputs

POSITIVE: Final = ("slope", "lift", "skip", "mix", "out", "scale", "gate_base")
_NAMES: Final = (*POSITIVE, "shift", "mix_shift", "mean", "gate", "bend", "context_mean", "context_scale")


class MonotoneNetwork(LearnedStrategy):
    """The trained network as a strategy; serving it needs no torch.

    With x_k the standardised logit (or log1p) of score k, turned so that it should rise, and s the standardised context,

        h_k = gate_k(s) * (skip_k x_k + sum_j lift_kj phi_j(slope_kj x_k + shift_kj + (s bend)_kj))
        final = sum_k h_k + sum_m out_m phi_m(sum_k h_k mix_km + mix_shift_m)

    where gate_k(s) = squareplus(gate_base_k + (s gate)_k) > 0 (1 without context) and phi is squareplus for the first half of its
    units, its mirror image -squareplus(-z) for the second.

    Args:
        inputs: T tasks and C context names.
        arrays: slope, lift, shift `[T, J]`; skip, mean, scale, gate_base `[T]`; mix `[T, M]`; out, mix_shift `[M]`;
            gate `[C, T]`; bend `[C, T * J]`; context_mean, context_scale `[C]`. Those in POSITIVE hold nothing below 0.
    """

    kind: ClassVar[str] = "monotone_network"

    def __init__(self, inputs: Inputs, arrays: Mapping[str, AnyArray], calibration: Calibration | None = None) -> None:
        super().__init__(inputs, calibration)
        self._arrays = _checked(inputs, arrays)

    def values(self, x: Floats, s: Floats) -> Floats:
        """Final scores `[n]`."""
        a = self._arrays
        z = (self.inputs.unbounded(x) - a["mean"]) * a["scale"]  # (n, T)
        n_tasks, n_units = a["slope"].shape
        shift, gate = a["shift"][None], np.ones((1, n_tasks))
        if len(self.inputs.context):
            s = (s - a["context_mean"]) * a["context_scale"]  # (n or 1, C)
            shift = shift + (s @ a["bend"]).reshape(len(s), n_tasks, n_units)  # (n or 1, T, J)
            gate = squareplus(a["gate_base"] + s @ a["gate"])  # (n or 1, T)
        out = np.empty(len(z))
        _forward(z, shift, gate, a["slope"], a["lift"], a["skip"], a["mix"], a["mix_shift"], a["out"], out)
        return out

    def arrays(self) -> dict[str, AnyArray]:
        """The weights, by name."""
        return dict(self._arrays)

    @property
    def proof(self) -> str:
        """The weights that were checked, and the smallest of them."""
        checked = np.concatenate([self._arrays[name].ravel() for name in POSITIVE])
        return (
            f"All {len(checked)} weights on the ways from a score to the final score are at least 0 (the smallest is "
            f"{checked.min():.3g}), and every unit between them rises, so the final score rises with every score that should."
        )

    @classmethod
    def from_arrays(cls, inputs: Inputs, arrays: Mapping[str, AnyArray], calibration: Calibration | None = None) -> Self:
        """The inverse of `arrays`; a negative weight is refused."""
        return cls(inputs, arrays, calibration)


def squareplus(z: Floats) -> Floats:
    """(z + sqrt(z^2 + 1)) / 2: positive, rising and convex like softplus, without an exponential (Barron 2021)."""
    return np.asarray(0.5 * (z + np.sqrt(z * z + 1.0)))


@compiled
def two_sided(z: float, convex: bool) -> float:
    """Squareplus, or its mirror image -squareplus(-z)."""
    root = math.sqrt(z * z + 1.0)
    return 0.5 * (z + root) if convex else 0.5 * (z - root)


@compiled
def _forward(
    z: Floats,
    shift: Floats,
    gate: Floats,
    slope: Floats,
    lift: Floats,
    skip: Floats,
    mix: Floats,
    mix_shift: Floats,
    out: Floats,
    final: Floats,
) -> None:
    n_tasks, n_units = slope.shape
    n_mixed = len(out)
    mixed = np.empty(n_mixed)
    for i in range(len(z)):
        g, b = gate[i if len(gate) > 1 else 0], shift[i if len(shift) > 1 else 0]
        mixed[:] = mix_shift
        total = 0.0
        for k in range(n_tasks):
            h = skip[k] * z[i, k]
            for j in range(n_units):
                h += lift[k, j] * two_sided(slope[k, j] * z[i, k] + b[k, j], 2 * j < n_units)
            h *= g[k]
            total += h
            for m in range(n_mixed):
                mixed[m] += h * mix[k, m]
        for m in range(n_mixed):
            total += out[m] * two_sided(mixed[m], 2 * m < n_mixed)
        final[i] = total


def _checked(inputs: Inputs, arrays: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    if set(arrays) != set(_NAMES):
        raise ArtefactError(f"a monotone network needs the arrays {', '.join(_NAMES)}; got {', '.join(sorted(arrays)) or 'none'}")
    a = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in arrays.items()}
    n_tasks, n_context = len(inputs.tasks), len(inputs.context)
    units, mixed = a["slope"].shape[-1], a["out"].shape[-1]
    shapes = {
        **dict.fromkeys(("slope", "lift", "shift"), (n_tasks, units)),
        **dict.fromkeys(("skip", "mean", "scale", "gate_base"), (n_tasks,)),
        "mix": (n_tasks, mixed),
        "out": (mixed,),
        "mix_shift": (mixed,),
        "gate": (n_context, n_tasks),
        "bend": (n_context, n_tasks * units),
        **dict.fromkeys(("context_mean", "context_scale"), (n_context,)),
    }
    for name, shape in shapes.items():
        if a[name].shape != shape or not np.isfinite(a[name]).all():
            raise ArtefactError(f"monotone network: {name} has shape {a[name].shape} or is not finite; expected finite {shape}")
        if name in POSITIVE and (a[name] < 0).any():
            raise ArtefactError(f"monotone network: {name} holds a negative weight, so it is not monotone; train it again")
    return a
