"""What the one trainer asks of a learner: rounds of learning, a strategy at any time, and a state that can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from core.arrays import AnyArray
from core.errors import ConfigError
from fusion.calibrate import Calibration
from fusion.learned.base import LearnedStrategy


class Learner(Protocol):
    """Made from (rows, inputs, options, seed); the same four make the same rounds, also after `restore`."""

    def round(self, number: int) -> None:
        """Learn some more; `number` counts from 0."""

    def strategy(self, calibration: Calibration | None = None) -> LearnedStrategy:
        """What has been learned so far."""

    def state(self) -> dict[str, AnyArray]:
        """Everything a later round depends on."""

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on from a state."""


def with_defaults(kind: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a learner: numbers and words, each of its default's type.

    Raises:
        ConfigError: An option is unknown, of another type, or a number that is not above 0.

    >>> with_defaults("monotone", {"width": 6, "learning_rate": 0.01}, {"learning_rate": 1})
    {'width': 6, 'learning_rate': 1.0}
    """
    options = dict(defaults)
    for name, value in given.items():
        if name not in defaults:
            raise ConfigError(f"{kind} has no option {name!r}; options are {', '.join(defaults)}")
        like = defaults[name]
        right = isinstance(value, type(like)) or (isinstance(like, float) and isinstance(value, int))
        if not right or isinstance(value, bool):
            raise ConfigError(f"{kind}: option {name} is {value!r}; it must be like {like!r}")
        if not isinstance(value, str) and not value > 0:
            raise ConfigError(f"{kind}: option {name} is {value!r}; it must be above 0")
        options[name] = float(value) if isinstance(like, float) else value
    return options


def one_of(kind: str, options: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str:
    """An option that is one of some words."""
    if options[name] not in choices:
        raise ConfigError(f"{kind}: option {name} is {options[name]!r}; choose from {', '.join(choices)}")
    return str(options[name])
