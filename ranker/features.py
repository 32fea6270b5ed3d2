"""The feature spec: which columns the ranker reads, how each becomes numbers, and which tasks it predicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from core.errors import ConfigError
from core.tasks import TaskSet

Kind = Literal["sparse", "dense", "multi_hot", "sequence"]
Side = Literal["user", "request", "item"]
Vocabulary = Literal["fit", "hash", "range"]
Transform = Literal["none", "standard", "log1p", "piecewise"]
Missing = Literal["error", "fill"]
Pooling = Literal["mean", "sum", "none"]
_CHOICES = {
    "kind": Kind,
    "side": Side,
    "vocabulary": Vocabulary,
    "transform": Transform,
    "missing": Missing,
    "pooling": Pooling,
}
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True, slots=True)
class Feature:
    """One input column.

    Args:
        name: The feature's name; also its column, unless `column` says otherwise.
        kind: `sparse` (one id), `dense` (a number), `multi_hot` (a set of ids), `sequence` (ids in order, oldest first).
        side: Whether it belongs to the user, the request, or the item. User and request parts are computed once per request.
        dim: Width of the embedding (not for dense).
        vocabulary: `fit` learns the ids of the training rows, `hash` spreads any id over `size` rows, `range` takes 0..size-1.
        size: Rows for `hash` and `range`; the most frequent ids to keep for `fit` (all of them by default).
        min_count: `fit`: ids seen less often share the out-of-vocabulary rows, which are thereby trained.
        oov: Out-of-vocabulary rows; an unknown id is hashed onto one of them.
        drop: Share of training rows whose id is replaced by its out-of-vocabulary row, so that unknown ids are handled.
        bins: `sparse` over a number: that many quantile bins of the training values.
        transform: `dense`: as it stands, standardised, log1p and standardised, or `steps` piecewise linear quantile steps.
        missing: `error`, or `fill`: the mean (dense, with an indicator beside it) or a row of its own (ids).
        max_len: Longest list; a sequence keeps its newest entries, a multi-hot set its first.
        pooling: How a list becomes one vector; `none` leaves a sequence to the model (target attention, LSTM).
        fixed: The value that scoring always uses, whatever the row says: a logged position is learned from, and fixed at serving.
        shares: Another feature whose embedding rows it uses (an item id inside a user's sequence).

    Raises:
        ConfigError: A field is outside its values, or does not go with the kind.
    """

    name: str
    kind: Kind = "sparse"
    side: Side = "item"
    dim: int = 8
    column: str = ""
    vocabulary: Vocabulary = "fit"
    size: int | None = None
    min_count: int = 1
    oov: int = 1
    drop: float = 0.0
    bins: int | None = None
    transform: Transform = "standard"
    steps: int = 16
    missing: Missing = "error"
    max_len: int = 50
    pooling: Pooling = "mean"
    fixed: float | str | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, "column", self.name)
        for field, literal in _CHOICES.items():
            value = getattr(self, field)
            if value not in get_args(literal):
                raise ConfigError(f"feature {self.name!r}: {field} {value!r} is not one of {', '.join(get_args(literal))}")
        for field, least in (("dim", 1), ("min_count", 1), ("oov", 1), ("max_len", 1), ("steps", 2)):
            if not isinstance(getattr(self, field), int) or getattr(self, field) < least:
                raise ConfigError(f"feature {self.name!r}: {field} {getattr(self, field)!r} must be a whole number from {least}")
        if not 0 <= self.drop < 1:
            raise ConfigError(f"feature {self.name!r}: drop {self.drop} must lie in [0, 1)")
        if self.vocabulary != "fit" and (self.size is None or self.size < 1) and self.kind != "dense" and not self.shares:
            raise ConfigError(f"feature {self.name!r}: vocabulary {self.vocabulary!r} needs size, the number of rows")
        if self.bins is not None and (self.kind != "sparse" or self.bins < 2):
            raise ConfigError(f"feature {self.name!r}: bins {self.bins} goes with kind sparse and must be at least 2")

    @property
    def listed(self) -> bool:
        """Whether its column holds lists."""
        return self.kind in ("multi_hot", "sequence")


class FeatureSpec:
    """Features, tasks, and the columns that name the user, the item, the time and the scenario.

    Raises:
        ConfigError: A name appears twice, a label is among the features, or a shared table does not exist.

    >>> features = [{"name": "item_id"}, {"name": "price", "kind": "dense"}]
    >>> spec = FeatureSpec.from_json({"tasks": [{"name": "click"}], "features": features})
    >>> [feature.kind for feature in spec.features]
    ['sparse', 'dense']
    """

    def __init__(
        self,
        features: Sequence[Feature],
        tasks: TaskSet,
        *,
        user: str = "user_id",
        item: str = "item_id",
        time: str = "time_ms",
        scenario: str | None = None,
        weight: str | None = None,
    ) -> None:
        self.features = tuple(features)
        self.tasks = tasks
        self.user, self.item, self.time, self.scenario, self.weight = user, item, time, scenario, weight
        if not self.features:
            raise ConfigError("the feature spec has no features; declare at least one")
        names = [feature.name for feature in self.features]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(f"feature {doubled[0]!r} is declared twice; names must be unique")
        labels = {name: name for name in tasks.names} | {t.sample_space: t.name for t in tasks if t.sample_space}
        for feature in self.features:
            if feature.column in labels:
                raise ConfigError(
                    f"feature {feature.name!r} reads column {feature.column!r}, the label of task {labels[feature.column]!r}; "
                    "a label among the features leaks the answer, remove it"
                )
            if feature.shares is not None:
                self._check_shared(feature)

    def _check_shared(self, feature: Feature) -> None:
        by_name = {other.name: other for other in self.features}
        owner = by_name.get(str(feature.shares))
        if owner is None or owner.shares or owner.kind == "dense" or owner.bins:
            raise ConfigError(f"feature {feature.name!r}: shares {feature.shares!r}, which is no feature with ids of its own")
        if owner.dim != feature.dim:
            raise ConfigError(
                f"feature {feature.name!r}: dim {feature.dim} must equal {owner.dim}, the dim of {owner.name!r} it shares"
            )

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise ConfigError(f"unknown feature {name!r}; features are {', '.join(f.name for f in self.features)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureSpec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def side(self, side: Side) -> tuple[Feature, ...]:
        """The features of one side, in order."""
        return tuple(feature for feature in self.features if feature.side == side)

    def columns(self, *sides: Side) -> list[str]:
        """Columns that the features of these sides (all by default) read, each once."""
        return list(dict.fromkeys(f.column for f in self.features if not sides or f.side in sides))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; fields at their default are left out."""
        default = asdict(Feature("_"))
        features = []
        for feature in self.features:
            row = {k: v for k, v in asdict(feature).items() if v != default[k]}
            if row["column"] == feature.name:
                del row["column"]
            features.append(row)
        columns = {"user": self.user, "item": self.item, "time": self.time, "scenario": self.scenario, "weight": self.weight}
        return {"tasks": self.tasks.to_json(), "columns": columns, "features": features}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FeatureSpec:
        """The inverse of `to_json`; unknown fields are an error that names them."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"a feature spec is a mapping with tasks and features; got {type(value).__name__}")
        _known("feature spec", value, ("tasks", "columns", "features"))
        for part in ("tasks", "features"):
            if not isinstance(value.get(part), list) or not all(isinstance(row, Mapping) for row in value[part]):
                raise ConfigError(f"the feature spec needs {part!r}, a list of mappings")
        names = [field.name for field in fields(Feature)]
        for row in value["features"]:
            _known(f"feature {row.get('name')!r}", row, names)
            if not isinstance(row.get("name"), str):
                raise ConfigError(f"feature {dict(row)!r} has no name")
        columns = value.get("columns") or {}
        _known("feature spec columns", columns, ("user", "item", "time", "scenario", "weight"))
        return cls([Feature(**row) for row in value["features"]], TaskSet.from_json(value["tasks"]), **columns)

    @classmethod
    def load(cls, path: str | Path) -> FeatureSpec:
        """Read a YAML or JSON file."""
        try:
            value = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise ConfigError(f"feature spec {str(path)!r} cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"feature spec {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error
        return cls.from_json(value)


def _known(where: str, row: Mapping[str, Any], names: Sequence[str]) -> None:
    unknown = sorted(set(row) - set(names))
    if unknown:
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; fields are {', '.join(names)}")
