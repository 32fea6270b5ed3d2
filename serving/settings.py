"""Settings: one validated file (YAML or JSON) below `SCOREFUSION_*` environment variables, everything checked at load."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError

ENV = "SCOREFUSION_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the service is told. Paths are relative to `work_dir` unless absolute.

    Args:
        host, port: Where HTTP listens.
        work_dir: Folder of the event store, the artefacts and the first-start world.
        artefacts: Root of the artefact store.
        release: Label of a release artefact, which names ranker, strategies and default_strategy; give it instead of them.
        ranker: Label of the ranker artefact, `ranker/name` or `ranker/name/vN`; empty: made on first start.
        strategies: Strategy artefacts by the name that the plan uses for them.
        default_strategy: The strategy of everybody outside every experiment, and the first rung of the fallback ladder.
        items, users: Parquet tables of item and user features (`item_id`, `user_id` plus the features).
        plan: YAML or JSON file of layers, buckets and metrics; empty: everybody gets `default_strategy`.
        rules: Rules after fusion, for instance `{"kind": "max_per_page", "column": "author", "n": 2}`.
        store: URL of the event store.
        replicas: Processes that rank. threads: torch threads of each.
        queue: Requests one replica may hold waiting before it answers 429.
        deadline_ms: Budget of one ranking; what is not scored by then falls back.
        body_bytes_max, candidates_max, page_size_max: Limits of one request.
        feedback_max: Events of one feedback call.
        flush_ms: How long exposures may wait in a replica.
        outbox_max: How many requests may wait there before they are dropped and counted.
        feedback_timeout_s: How long feedback waits for its commit before it answers 503.
        candidate_share: Share of requests whose every candidate is logged with its scores.
        admin_token: Bearer token of admin calls; none: they are off.
        seed: Seed of the first-start world and of exploring strategies.

    Raises:
        ConfigError: A field is unknown, of the wrong type or out of range.

    >>> Settings.load(None, environ={"SCOREFUSION_PORT": "8100"}).port
    8100
    """

    host: str = "127.0.0.1"
    port: int = 8000
    work_dir: str = "scorefusion-data"
    artefacts: str = "artefacts"
    release: str = ""
    ranker: str = ""
    strategies: Mapping[str, str] = field(default_factory=dict)
    default_strategy: str = ""
    items: str = ""
    users: str = ""
    plan: str = ""
    rules: Sequence[Mapping[str, Any]] = ()
    store: str = "duckdb://events.duckdb"
    replicas: int = 1
    threads: int = 1
    queue: int = 256
    deadline_ms: float = 50.0
    body_bytes_max: int = 2_000_000
    candidates_max: int = 2_000
    page_size_max: int = 200
    feedback_max: int = 10_000
    flush_ms: float = 100.0
    outbox_max: int = 20_000
    feedback_timeout_s: float = 15.0
    candidate_share: float = 0.01
    admin_token: str = field(default="", repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"setting {name} = {value} must lie between {low:g} and {high:g}")
        if self.release and (self.ranker or self.strategies or self.default_strategy):
            raise ConfigError("setting release names the ranker, the strategies and the default_strategy; leave those out")
        if self.release and self.release.split("/")[0] != "release":
            raise ConfigError(f"setting release = {self.release!r} must read release/name or release/name/vN")
        if self.ranker and self.ranker.split("/")[0] != "ranker":
            raise ConfigError(f"setting ranker = {self.ranker!r} must read ranker/name or ranker/name/vN")
        for name, label in self.strategies.items():
            if not isinstance(label, str) or label.split("/")[0] != "strategy":
                raise ConfigError(f"setting strategies: {name!r} = {label!r} must read strategy/name or strategy/name/vN")
        if self.ranker and not self.strategies:
            raise ConfigError("setting strategies is empty; a ranker needs at least one strategy to fuse its scores")
        if self.strategies and self.default_strategy not in self.strategies:
            known = ", ".join(self.strategies)
            raise ConfigError(f"setting default_strategy = {self.default_strategy!r} is not one of strategies: {known}")
        if (self.ranker or self.release) and not (self.items and self.users):
            raise ConfigError("settings items and users must name the feature tables of the ranker (Parquet files)")

    @classmethod
    def load(cls, path: str | Path | None, *, environ: Mapping[str, str] | None = None) -> Settings:
        """The file's settings, then the environment's over them; a missing path means defaults."""
        values = _read(Path(path)) if path else {}
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"{path}: unknown setting {name!r}; settings are {', '.join(sorted(known))}")
        for name in sorted(known):
            text = (os.environ if environ is None else environ).get(ENV + name.upper())
            if text is not None:
                values[name] = text
        return cls(**{name: _convert(name, value) for name, value in values.items()})

    def changed(self, **values: Any) -> Settings:
        """These settings with some others, each converted and checked as if it came from the file."""
        return replace(self, **{name: _convert(name, value) for name, value in values.items()})

    def resolve(self, path: str) -> Path:
        """A path of these settings, below `work_dir` unless it is absolute."""
        return Path(self.work_dir) / path

    @property
    def store_url(self) -> str:
        """The store's URL with its file below `work_dir`."""
        path = self.store.removeprefix("duckdb://")
        if path == self.store or path == ":memory:":
            return self.store
        return f"duckdb://{self.resolve(path).absolute()}"

    def public(self) -> dict[str, Any]:
        """The settings as JSON values, without secrets."""
        return {**asdict(self), "admin_token": "set" if self.admin_token else ""}


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("port", 1, 65535),
    ("replicas", 1, 1024),
    ("threads", 1, 1024),
    ("queue", 1, 100_000),
    ("deadline_ms", 0.1, 600_000),
    ("body_bytes_max", 1_000, 1_000_000_000),
    ("candidates_max", 1, 100_000),
    ("page_size_max", 1, 100_000),
    ("feedback_max", 1, 1_000_000),
    ("flush_ms", 1, 60_000),
    ("outbox_max", 1, 10_000_000),
    ("feedback_timeout_s", 0.01, 600),
    ("candidate_share", 0, 1),
)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"settings file {str(path)!r} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"settings file {str(path)!r} is not YAML or JSON: {' '.join(str(error).split())}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"settings file {str(path)!r} must hold one mapping of setting: value")
    return {str(name): entry for name, entry in value.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a whole number")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number")
    return float(value)


def _mapping(value: Any) -> dict[str, Any]:
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError("a mapping")
    return {str(name): entry for name, entry in value.items()}


def _mappings(value: Any) -> tuple[dict[str, Any], ...]:
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, list | tuple):
        raise ValueError("a list of mappings")
    return tuple(_mapping(entry) for entry in value)


_CONVERTERS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "str": (_text, "text"),
    "int": (_whole, "a whole number"),
    "float": (_number, "a number"),
    "Mapping[str, str]": (_mapping, "a mapping"),
    "Sequence[Mapping[str, Any]]": (_mappings, "a list of mappings"),
}


def _convert(name: str, value: Any) -> Any:
    kind = next(f.type for f in fields(Settings) if f.name == name)
    converter, wanted = _CONVERTERS[str(kind)]
    try:
        return converter(value)
    except ValueError:
        raise ConfigError(f"setting {name} = {value!r} must be {wanted}") from None
