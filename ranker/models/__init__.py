"""Architectures by name: adding one is a file and a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.encoder import Layout
from ranker.models.base import MultiTaskModel
from ranker.models.din import DIN
from ranker.models.ensemble import Ensemble
from ranker.models.escm2 import ESCM2
from ranker.models.esmm import ESMM
from ranker.models.networks import NETWORKS

MODELS: Mapping[str, type[MultiTaskModel]] = {**NETWORKS, "din": DIN, "esmm": ESMM, "escm2": ESCM2}
MOST_MEMBERS = 64


def make(name: str, layout: Layout, tasks: TaskSet, options: Mapping[str, Any] | None = None) -> MultiTaskModel:
    """Build a model by name; `members` in its options, from 2, makes an ensemble of so many.

    Raises:
        ConfigError: The name or an option is unknown.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; models are {', '.join(MODELS)}")
    own = dict(options or {})
    members = own.pop("members", 1)
    if type(members) is not int or not 1 <= members <= MOST_MEMBERS:
        raise ConfigError(f"{name}: members = {members!r} must be a whole number from 1 to {MOST_MEMBERS}")
    if members > 1:
        return Ensemble(layout, tasks, architecture=MODELS[name], members=members, **own)
    return MODELS[name](layout, tasks, **own)


__all__ = ["MODELS", "MultiTaskModel", "make"]
