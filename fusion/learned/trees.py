"""Boosted ranking trees as they are served: LightGBM's own text format, which holds no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from core.artefacts import Artefact
from core.errors import ArtefactError
from core.scores import ScoreTable
from fusion.fused import NO_CONTEXT, Fused


class LambdaMart:
    """A boosted ranking model as a strategy; `model` is its text."""

    kind: ClassVar[str] = "lambdamart"

    def __init__(self, tasks: Sequence[str], model: str) -> None:
        import lightgbm  # only who serves or trains trees loads it

        self.tasks, self.model = tuple(tasks), model
        try:
            self._booster = lightgbm.Booster(model_str=model)
        except lightgbm.basic.LightGBMError as error:
            raise ArtefactError(f"the stored LightGBM model cannot be read: {error}") from error
        if self._booster.num_feature() != len(self.tasks):
            raise ArtefactError(f"the stored model reads {self._booster.num_feature()} tasks, its list names {len(self.tasks)}")

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""
        return frozenset(self.tasks)

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request."""
        table = np.stack([scores[task] for task in self.tasks], axis=1).astype(np.float64)
        if len(table) == 0:
            return Fused(np.zeros(0))
        return Fused(np.asarray(self._booster.predict(table, num_threads=1), dtype=np.float64))

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        return {"tasks": list(self.tasks)}, {"model.txt": self.model.encode()}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        return cls(artefact.config["tasks"], artefact.read("model.txt").decode())

    def __reduce__(self) -> tuple[Any, ...]:
        return LambdaMart, (self.tasks, self.model)
