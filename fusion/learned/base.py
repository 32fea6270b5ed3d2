"""What all learned fusions share: calibrate, read, compute, and one artefact form: JSON beside `model.safetensors`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from core.arrays import AnyArray, Floats
from core.artefacts import Artefact, tensors
from core.logs import LoggedDataset
from core.scores import ScoreTable
from fusion import calibrate
from fusion.calibrate import SCENARIO, Calibration
from fusion.fused import NO_CONTEXT, Fused
from fusion.learned.inputs import Inputs


class LearnedStrategy(ABC):
    """A function of an item's own scores and the request's context, monotone in every score by construction.

    Args:
        inputs: What it reads.
        calibration: Applied to the scores first, as it was while learning.
    """

    kind: ClassVar[str]

    def __init__(self, inputs: Inputs, calibration: Calibration | None = None) -> None:
        self.inputs, self.calibration = inputs, calibration

    @abstractmethod
    def values(self, x: Floats, s: Floats) -> Floats:
        """Final scores `[n]` of calibrated scores x `[n, T]` in contexts s, `[n, C]` or `[1, C]` for one request."""

    @abstractmethod
    def arrays(self) -> dict[str, AnyArray]:
        """The fitted numbers, by name."""

    @property
    @abstractmethod
    def proof(self) -> str:
        """Why it is monotone, in words with the numbers that were checked when it was made."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, inputs: Inputs, arrays: Mapping[str, AnyArray], calibration: Calibration | None = None) -> Self:
        """The inverse of `arrays`.

        Raises:
            ArtefactError: Arrays are missing or misshapen, or they are not monotone in every task as `inputs` declares.
        """

    @property
    def requires(self) -> frozenset[str]:
        """The tasks it reads."""
        return frozenset(self.inputs.tasks)

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request.

        Raises:
            ConfigError: The scores lack a task.
            DataError: A score or a context number is not finite.
        """
        x = self.inputs.table(scores)
        if self.calibration is not None:
            scenario = context.get(SCENARIO)
            x = self.calibration.apply(
                ScoreTable(self.inputs.tasks, x), scenario=None if scenario is None else str(scenario)
            ).values
        return Fused(self.values(x, self.inputs.numbers(context)))

    def on_log(self, log: LoggedDataset) -> Floats:
        """Final scores `[n]` of a log's raw `score_<task>` columns, each row in its own context."""
        if self.calibration is not None:
            log = self.calibration.apply_log(log)
        return self.values(*self.inputs.rows(log))

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        about, files = calibrate.to_files(self.calibration)
        return {"inputs": self.inputs.to_json(), **about}, {"model.safetensors": tensors(self.arrays()), **files}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        inputs, arrays = Inputs.from_json(artefact.config["inputs"]), artefact.read_tensors("model.safetensors")
        return cls.from_arrays(inputs, arrays, calibrate.from_artefact(artefact))
