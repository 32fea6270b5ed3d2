"""Everything that makes a world, in plain numbers: validated settings, read from a preset's YAML and changed by keyword."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
FIXED = ("click", "long_view", "complete")  # behaviours every world has; `heads` name the others, `watch_s` comes last


@dataclass(frozen=True, slots=True)
class Head:
    """How one interaction follows a click: its rate given a click and what moves it, on the logit scale."""

    rate: float
    taste: float = 0.4
    quality: float = 0.3
    clickbait: float = -0.2
    enjoy: float = 0.4
    spread_user: float = 0.6
    spread_item: float = 0.8


@dataclass(frozen=True, slots=True)
class RankerError:
    """One task's prediction: the AUC it should reach, and its miscalibration `scale * logit + bias`."""

    auc: float = 0.7
    bias: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A place where pages are shown: its share of sessions and its shifts of logits and needs by behaviour."""

    share: float = 1.0
    logit: Mapping[str, float] = field(default_factory=dict)
    need: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """A world in numbers; units are in the names, logits where nothing else is said.

    Raises:
        ConfigError: A value breaks its rule.
    """

    preset: str = "custom"
    # sizes
    n_users: int = 20_000
    n_items: int = 10_000
    n_topics: int = 16
    n_authors: int = 1_500
    n_candidates: int = 100
    page_size: int = 6
    step_limit: int = 30
    # catalogue
    popularity_power: float = 0.8
    duration_median_s: float = 35.0
    duration_spread: float = 0.9
    clickbait_share: float = 0.25
    clickbait_quality: float = -0.5
    new_share: float = 0.05
    fresh_days: float = 5.0
    # population
    cohorts: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: {"everyone": {}})
    cohort_taste: float = 0.5
    need: Mapping[str, float] = field(default_factory=lambda: {"click": 0.2, "watch_s": 1.0})
    need_spread: float = 0.2
    patience_spread: float = 0.4
    activity_spread: float = 0.5
    drift_period_days: float = 60.0
    drift_share: float = 0.2
    # retrieval
    personal_share: float = 0.6
    personal_sharpness: float = 1.2
    # behaviour
    examine_power: float = 0.15
    click_rate: float = 0.35
    click_taste: float = 1.1
    click_quality: float = 0.3
    click_clickbait: float = 0.9
    click_fresh: float = 0.2
    click_spread_user: float = 0.5
    click_spread_item: float = 0.4
    watch_median_s: float = 14.0
    watch_duration: float = 0.55
    watch_taste: float = 0.35
    watch_quality: float = 0.25
    watch_clickbait: float = -0.6
    watch_spread_user: float = 0.2
    watch_noise: float = 0.9
    watch_finish: float = 0.0  # who would stop within this many log units of the end watches to the end
    long_view_s: float = 18.0
    heads: Mapping[str, Head] = field(default_factory=dict)
    # satisfaction, leaving, coming back
    regret_clickbait: float = 0.5
    boredom: float = 0.35
    boredom_keep: float = 0.75
    satisfaction_keep: float = 0.6
    leave_rate: float = 0.15
    leave_satisfaction: float = 1.0
    leave_fatigue: float = 0.03
    return_days: float = 1.5
    return_satisfaction: float = 0.5
    session_carry: float = 0.5
    # the ranker's error
    ranker: Mapping[str, RankerError] = field(default_factory=dict)
    ranker_user_spread: float = 0.3
    cold_noise: float = 0.0
    # what a step is worth, and the weights a person would set
    reward: Mapping[str, float] = field(default_factory=lambda: {"watch_s": 0.02})
    hand_set: Mapping[str, float] = field(default_factory=lambda: {"click": 1.0, "watch_s": 1.0})
    scenarios: Mapping[str, Scenario] = field(default_factory=lambda: {"feed": Scenario()})

    def __post_init__(self) -> None:
        _check(self)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Behaviours in the order of score columns: click, long_view, complete, the heads, watch_s (seconds)."""
        return (*FIXED, *self.heads, "watch_s")

    def to_json(self) -> dict[str, Any]:
        """All settings as plain values, for `world.json` and manifests."""
        return asdict(self)


def load_settings(preset: str | Path, **overrides: Any) -> WorldSettings:
    """A preset by name (see `preset_names`) or a YAML file's path, with some settings replaced.

    >>> load_settings("default", n_users=100).n_users
    100
    """
    name = str(preset)
    path = Path(preset) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"unknown preset {name!r}; presets are {', '.join(preset_names())}, or give a .yaml file")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"preset {name!r} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"preset {name!r} must be a mapping of settings")
    base = values.pop("base", None)
    settings = load_settings(base) if base else WorldSettings()
    return from_values(overrides, from_values({"preset": path.stem, **values}, settings))


def preset_names() -> list[str]:
    """Names of the presets that come with scorefusion."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def from_values(values: Mapping[str, Any], base: WorldSettings | None = None) -> WorldSettings:
    """Settings from plain values; a mapping setting is merged key by key with the base's."""
    base = base or WorldSettings()
    known = {f.name for f in fields(WorldSettings)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}; settings are {', '.join(sorted(known))}")
        kind = _NESTED.get(name)
        changes[name] = value if kind is None else _nested(name, kind, value, getattr(base, name))
        if kind is None and isinstance(getattr(base, name), Mapping) and not isinstance(value, Mapping):
            raise ConfigError(f"{name} {value!r} must be a mapping")
    return replace(base, **changes)


_NESTED: dict[str, type[Head] | type[RankerError] | type[Scenario]] = {
    "heads": Head,
    "ranker": RankerError,
    "scenarios": Scenario,
}


def _nested(name: str, kind: type[Any], value: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} {value!r} must be a mapping by name")
    merged = {} if name == "scenarios" else dict(base)
    known = {f.name for f in fields(kind)}
    for key, entry in value.items():
        if entry is None:
            merged.pop(key, None)
            continue
        if isinstance(entry, kind):
            merged[key] = entry
            continue
        if not isinstance(entry, Mapping) or set(entry) - known:
            raise ConfigError(f"{name}.{key} {entry!r}: must be a mapping with fields among {', '.join(sorted(known))}")
        try:
            merged[key] = replace(merged[key], **entry) if key in merged else kind(**entry)
        except TypeError as error:
            raise ConfigError(f"{name}.{key}: {error}") from error
    return merged


def _check(s: WorldSettings) -> None:
    for f in fields(s):
        value = getattr(s, f.name)
        if f.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigError(f"{f.name} {value!r} must be a whole number of at least 1")
        if f.type == "float" and (not isinstance(value, int | float) or not math.isfinite(value)):
            raise ConfigError(f"{f.name} {value!r} must be a finite number")
        share = f.name in {"clickbait_share", "new_share", "drift_share", "personal_share", "session_carry", "boredom_keep"}
        if share and not 0 <= value <= 1:
            raise ConfigError(f"{f.name} {value} must lie between 0 and 1")
        if (f.name.endswith("_spread") or "spread_" in f.name) and value < 0:
            raise ConfigError(f"{f.name} {value} is a standard deviation; it must not be negative")
    for name in ("click_rate", "leave_rate"):
        _open(name, getattr(s, name))
    for name, head in s.heads.items():
        _open(f"heads.{name}.rate", head.rate)
        if head.spread_user < 0 or head.spread_item < 0:
            raise ConfigError(f"heads.{name}: spreads must not be negative")
    for name in (
        "duration_median_s",
        "watch_median_s",
        "long_view_s",
        "fresh_days",
        "return_days",
        "drift_period_days",
        "watch_noise",
    ):
        if getattr(s, name) <= 0:
            raise ConfigError(f"{name} {getattr(s, name)} must be positive")
    for name in ("popularity_power", "examine_power", "cold_noise", "boredom", "personal_sharpness", "watch_finish"):
        if getattr(s, name) < 0:
            raise ConfigError(f"{name} {getattr(s, name)} must not be negative")
    if not 0 <= s.satisfaction_keep < 1:
        raise ConfigError(f"satisfaction_keep {s.satisfaction_keep} must lie in [0, 1)")
    if s.page_size > s.n_candidates:
        raise ConfigError(
            f"page_size {s.page_size} is larger than n_candidates {s.n_candidates}; a page is chosen among the candidates"
        )
    if s.n_candidates > s.n_items:
        raise ConfigError(f"n_candidates {s.n_candidates} is larger than n_items {s.n_items}; candidates are distinct items")
    if not s.cohorts or not s.scenarios:
        raise ConfigError("a world needs at least one cohort and one scenario")
    if min(x.share for x in s.scenarios.values()) < 0 or sum(x.share for x in s.scenarios.values()) <= 0:
        raise ConfigError("scenario shares must not be negative and not all be 0")
    _names(s)


def _open(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} {value} must lie strictly between 0 and 1; it is a probability")


def _names(s: WorldSettings) -> None:
    tasks = s.tasks
    if len(set(tasks)) < len(tasks):
        raise ConfigError(f"behaviours {', '.join(tasks)} are not unique; a head may not be called like a fixed behaviour")
    uses: list[tuple[str, Mapping[str, Any]]] = [
        ("need", s.need),
        ("reward", s.reward),
        ("hand_set", s.hand_set),
        ("ranker", s.ranker),
    ]
    uses += [(f"cohorts.{name}", shifts) for name, shifts in s.cohorts.items()]
    uses += [(f"scenarios.{name}", {**scenario.logit, **scenario.need}) for name, scenario in s.scenarios.items()]
    for where, named in uses:
        for name in named:
            if name not in tasks:
                raise ConfigError(f"{where}: unknown behaviour {name!r}; behaviours are {', '.join(tasks)}")
    for name, error in s.ranker.items():
        if not 0.5 <= error.auc < 1:
            raise ConfigError(f"ranker.{name}: auc {error.auc} must lie in [.5, 1)")
        if error.scale <= 0:
            raise ConfigError(f"ranker.{name}: scale {error.scale} must be positive")
