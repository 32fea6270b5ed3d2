"""The monotone network as it is served: plain numpy, and no weight may be negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from core.arrays import AnyArray, Floats
from core.artefacts import Artefact, tensors
from core.errors import ArtefactError
from core.scores import ScoreTable
from fusion.fused import NO_CONTEXT, Fused

_SHAPES = ("w1", "b1", "w2", "b2", "w3", "skip", "mean", "scale", "sign")
_EDGE = 1e-6


class MonotoneNetwork:
    """The trained network as a strategy; it runs in numpy, so serving needs no torch.

    Args:
        tasks: Score columns; those in `logit` are probabilities and pass through a logit, the others through log1p.
        arrays: w1 `[T, H]`, b1 `[H]`, w2 `[H, H]`, b2 `[H]`, w3 `[H]`, skip `[T]` (no weight negative),
            and mean, scale, sign `[T]`.
    """

    kind: ClassVar[str] = "monotone_network"

    def __init__(self, tasks: Sequence[str], logit: Sequence[str], arrays: Mapping[str, AnyArray]) -> None:
        self.tasks, self.logit = tuple(tasks), tuple(logit)
        if set(arrays) != set(_SHAPES) or arrays["w1"].shape[0] != len(self.tasks):
            raise ArtefactError(f"a monotone network needs the arrays {', '.join(_SHAPES)} for its {len(self.tasks)} tasks")
        self.arrays = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
        if any((self.arrays[name] < 0).any() for name in ("w1", "w2", "w3", "skip", "scale")):
            raise ArtefactError("a monotone network must have non-negative weights; these are not, so train it again")

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""
        return frozenset(self.tasks)

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request."""
        a = self.arrays
        raw = np.stack([scores[task] for task in self.tasks], axis=1).astype(np.float64)  # (n, T)
        x = (network_inputs(raw, self.tasks, self.logit) - a["mean"]) * a["scale"] * a["sign"]
        hidden = _two_sided(x @ a["w1"] + a["b1"])  # (n, H)
        hidden = _two_sided(hidden @ a["w2"] + a["b2"])
        return Fused(hidden @ a["w3"] + x @ a["skip"])

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        return {"tasks": list(self.tasks), "logit": list(self.logit)}, {"network.safetensors": tensors(self.arrays)}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        return cls(artefact.config["tasks"], artefact.config["logit"], artefact.read_tensors("network.safetensors"))


def network_inputs(raw: Floats, tasks: Sequence[str], logit: Sequence[str]) -> Floats:
    """Raw scores `[n, T]` as logits, or log1p where they are not probabilities."""
    out = np.empty_like(raw)
    for i, task in enumerate(tasks):
        if task in logit:
            p = np.clip(raw[:, i], _EDGE, 1 - _EDGE)
            out[:, i] = np.log(p / (1 - p))
        else:
            out[:, i] = np.log1p(np.maximum(raw[:, i], 0.0))
    return out


def _two_sided(z: Floats) -> Floats:
    half = z.shape[1] // 2
    return np.concatenate([np.logaddexp(0.0, z[:, :half]), -np.logaddexp(0.0, -z[:, half:])], axis=1)
