"""A policy's state: declared numbers from the user's profile, the session so far and the candidates' scores.

Serving fills it one request at a time, training reads what serving logged; the simulator's observation is declared in the same
words, so a state means the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from core.arrays import Floats, Floats32
from core.errors import ConfigError, DataError
from core.scores import ScoreTable

SOURCES = ("user", "request", "scores")
TRANSFORMS = ("none", "log", "log1p")
STATS = ("mean", "best")
BOUND = 50.0  # states are clipped here


class NoState(DataError):
    """The request lacks something the state is made of; `column` names it."""

    def __init__(self, column: str) -> None:
        super().__init__(f"the state needs {column!r}, which this request does not have; send it, or accept the fallback")
        self.column = column


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of the state: transform(scale * min(value, high)).

    Args:
        source: `user` (the user table), `request` (the context that came with the request), `scores` (over all candidates).
        column: The column, the context's name, or the task.
        equals: Then the value is 1 where the column, as text, equals this, else 0.
        stat: `mean` or `best` of a task's scores.
    """

    name: str
    source: str
    column: str
    scale: float = 1.0
    high: float = math.inf
    transform: str = "none"
    equals: str | None = None
    stat: str = "mean"

    def __post_init__(self) -> None:
        for value, known in ((self.source, SOURCES), (self.transform, TRANSFORMS), (self.stat, STATS)):
            if value not in known:
                raise ConfigError(f"state feature {self.name!r}: {value!r} is not one of {', '.join(known)}")
        if not math.isfinite(self.scale) or math.isnan(self.high):
            raise ConfigError(f"state feature {self.name!r}: scale {self.scale} and high {self.high} must be numbers")


class StateSpec:
    """The features in order.

    >>> spec = StateSpec([Feature("step", "request", "step", scale=0.1), Feature("best_click", "scores", "click", stat="best")])
    >>> spec.see({}, {"step": 5}, ScoreTable(("click",), np.array([[0.25], [0.75]]))).tolist()
    [0.5, 0.75]
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.names = tuple(feature.name for feature in self.features)
        if not self.features or len(set(self.names)) < len(self.names):
            raise ConfigError(f"state features {', '.join(self.names) or '(none)'} must be there, each under a name of its own")
        self._scale = np.array([f.scale for f in self.features])
        self._high = np.array([f.high for f in self.features])
        self._log = np.array([f.transform == "log" for f in self.features])
        self._log1p = np.array([f.transform == "log1p" for f in self.features])
        self._plain = [
            (np.array(at, np.int64), source, [self.features[i].column for i in at])
            for source in ("user", "request")
            if (at := [i for i, f in enumerate(self.features) if f.source == source and f.equals is None])
        ]
        self._equal = [(i, f.source, f.column, f.equals) for i, f in enumerate(self.features) if f.equals is not None]
        self._scored = [(i, f.column, f.stat) for i, f in enumerate(self.features) if f.source == "scores"]
        self._any_log, self._any_log1p = bool(self._log.any()), bool(self._log1p.any())

    def __len__(self) -> int:
        return len(self.features)

    @property
    def user_columns(self) -> tuple[str, ...]:
        """Columns of the user table it reads."""
        return self._columns("user")

    @property
    def request_columns(self) -> tuple[str, ...]:
        """Names of the context it reads."""
        return self._columns("request")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose scores it reads."""
        return self._columns("scores")

    def see(self, user: Mapping[str, Any], request: Mapping[str, Any], scores: ScoreTable) -> Floats32:
        """The state `[n_obs]` of one request.

        Args:
            user: The user's row by column. request: the context. scores: all candidates' scores.

        Raises:
            NoState: A value is missing, is no number, or is not finite.
        """
        raw = np.empty(len(self.features))
        for at, source, columns in self._plain:
            given = user if source == "user" else request
            try:
                raw[at] = [float(given[column]) for column in columns]
            except (KeyError, TypeError, ValueError) as error:
                raise NoState(self._lacking(user, request)) from error
        for index, source, column, equals in self._equal:
            value = (user if source == "user" else request).get(column)
            if value is None:
                raise NoState(self._lacking(user, request))
            raw[index] = str(value) == equals
        if self._scored:
            means, bests = np.add.reduce(scores.values) / len(scores), np.maximum.reduce(scores.values)
            place = {task: column for column, task in enumerate(scores.tasks)}
            for index, task, stat in self._scored:
                if task not in place:
                    raise NoState(task)
                raw[index] = (means if stat == "mean" else bests)[place[task]]
        return self._finish(raw)

    def _lacking(self, user: Mapping[str, Any], request: Mapping[str, Any]) -> str:
        """The first column without a usable value."""
        given = {"user": user, "request": request}
        for f in self.features:
            value = given[f.source].get(f.column) if f.source in given else 0.0
            if value is None or (f.equals is None and not _is_number(value)):
                return f.column
        raise AssertionError("nothing is lacking")

    def _finish(self, raw: Floats) -> Floats32:
        values = np.minimum(raw, self._high) * self._scale
        if self._any_log or self._any_log1p:
            with np.errstate(invalid="ignore", divide="ignore"):
                values[self._log] = np.log(values[self._log])
                values[self._log1p] = np.log1p(values[self._log1p])
        if not np.isfinite(values).all():
            raise NoState(self.features[int(np.argmin(np.isfinite(values)))].column)
        bounded: Floats32 = np.minimum(np.maximum(values, -BOUND), BOUND).astype(np.float32)
        return bounded

    def _columns(self, source: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f.column for f in self.features if f.source == source))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values; what has its default is left out."""
        plain = {f.name: f.default for f in fields(Feature)}
        return [{k: v for k, v in asdict(feature).items() if v != plain[k]} for feature in self.features]

    @classmethod
    def from_json(cls, value: Sequence[Mapping[str, Any]]) -> Self:
        """The inverse of `to_json`."""
        try:
            return cls([Feature(**entry) for entry in value])
        except TypeError as error:
            raise ConfigError(f"state features: {error}") from error


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
