"""A formula that explores around its weights: a policy whose log can be learned from and evaluated off-policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from core.errors import ConfigError
from fusion.formula import Formula
from fusion.policy.exploration import Exploration, boxed, mixed
from fusion.policy.networks import constant
from fusion.policy.state import StateSpec
from fusion.policy.strategy import PolicyStrategy

_KEYS = {"state", "ranges", "exploration"}


def exploring(path: str | Path, formula: Formula, weights: Mapping[str, float]) -> PolicyStrategy:
    """Read what a file says about state, ranges and exploration.

    Args:
        path: YAML with `state`, a list of features (see `fusion.policy.state.Feature`); `ranges`, `[low, high]` for every
            parameter; `exploration`: `mixed` (the default), `box`, or components by name.
        weights: Where exploration starts; what a request without its state gets.

    Raises:
        ConfigError: The file cannot be read, or does not fit the formula.
    """
    try:
        value = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read as YAML: {error}") from error
    if not isinstance(value, dict) or not {"state", "ranges"} <= set(value) <= _KEYS:
        raise ConfigError(f"{str(path)!r} must hold state and ranges, and may hold exploration; it holds {value!r:.100}")
    ranges = {str(name): _range(str(name), bounds) for name, bounds in dict(value["ranges"]).items()}
    missing = [name for name in formula.params if name not in ranges]
    if missing:
        raise ConfigError(f"{str(path)!r}: parameter {missing[0]!r} has no range; the formula's are {', '.join(formula.params)}")
    state = StateSpec.from_json(value["state"])
    bounds = {name: ranges[name] for name in formula.params}
    low, high = np.array(list(bounds.values())).T
    start = 2 * (np.array([weights[name] for name in formula.params]) - low) / (high - low) - 1
    net = constant(start.tolist(), len(state))
    return PolicyStrategy(formula, bounds, state, net, weights, _exploration(value.get("exploration", "mixed")))


def _range(name: str, bounds: Any) -> tuple[float, float]:
    if not isinstance(bounds, list) or len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ConfigError(f"range of {name!r} {bounds!r} must be [low, high], low below high")
    return float(bounds[0]), float(bounds[1])


def _exploration(value: Any) -> Exploration:
    if isinstance(value, Mapping):
        return Exploration.from_json(value)
    if value not in ("mixed", "box"):
        raise ConfigError(f"exploration {value!r} must be mixed, box, or components by name")
    return mixed() if value == "mixed" else boxed()
