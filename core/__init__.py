"""The words every room of the house shares: tasks, scores, events, logged datasets, artefacts, errors."""

from core.artefacts import Artefact, ArtefactStore
from core.errors import ArtefactError, ConfigError, DataError, ScorefusionError
from core.events import Request, Slate
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet, TaskSpec

__all__ = [
    "Artefact",
    "ArtefactError",
    "ArtefactStore",
    "ConfigError",
    "DataError",
    "LoggedDataset",
    "Request",
    "ScoreTable",
    "ScorefusionError",
    "Slate",
    "TaskSet",
    "TaskSpec",
]
