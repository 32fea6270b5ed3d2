"""Architectures by name: adding one is a file and a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.models.base import MultiTaskModel
from ranker.models.din import DIN
from ranker.models.escm2 import ESCM2
from ranker.models.esmm import ESMM
from ranker.models.networks import NETWORKS

MODELS: Mapping[str, type[MultiTaskModel]] = {**NETWORKS, "din": DIN, "esmm": ESMM, "escm2": ESCM2}


def make(name: str, layout: Layout, tasks: TaskSet, options: Mapping[str, Any] | None = None) -> MultiTaskModel:
    """Build a model by name.

    Raises:
        ConfigError: The name or an option is unknown.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; models are {', '.join(MODELS)}")
    return MODELS[name](layout, tasks, **dict(options or {}))


__all__ = ["MODELS", "MultiTaskModel", "make"]
