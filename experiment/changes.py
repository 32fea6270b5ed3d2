"""What changes between two plans, and how many units that are assigned now would be moved to another bucket."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.arrays import Bools
from experiment.assign import Assigned, Assigner
from experiment.plan import Plan
from experiment.plan_parts import PlanValues
from experiment.store.interface import EventStore

_SAMPLE = 20_000


@dataclass(frozen=True)
class PlanChange:
    """The difference between two plans.

    `lines` name every changed value; `moved` is the share of a layer's assigned units that would be in another bucket
    (targets left out of account), which a ramp keeps at 0.
    """

    lines: tuple[str, ...]
    moved: Mapping[str, float]

    @property
    def keeps_units(self) -> bool:
        """Whether every unit that is assigned keeps its bucket."""
        return not any(self.moved.values())


def compare_plans(old: Plan, new: Plan) -> PlanChange:
    """Changes from one plan to another.

    >>> text = "default_strategy: a\\nlayers: [{name: l, experiments: [{name: e, coverage: %s, buckets: %s}]}]"
    >>> half = "[{name: x, weight: 0.5}, {name: y, weight: 0.5}]"
    >>> change = compare_plans(Plan.from_yaml(text % (0.1, half)), Plan.from_yaml(text % (0.2, half)))
    >>> change.lines, change.moved
    (('layers.l.experiments.e.coverage: 0.1 -> 0.2',), {'l': 0.0})
    """
    before, after = (dict(_flat(json.loads(json.dumps(plan.source, default=str)))) for plan in (old, new))
    lines = []
    for key in dict.fromkeys([*before, *after]):
        if before.get(key) != after.get(key):
            lines.append(f"{key}: {_shown(before, key)} -> {_shown(after, key)}")
    units = np.arange(_SAMPLE)
    kinds = {e.unit for plan in (old, new) for e in plan.experiments.values()}
    kinds |= {layer.unit for plan in (old, new) for layer in plan.layers} | {"user"}
    ids = dict.fromkeys(kinds, units)
    here, there = (Assigner(_open(plan)).assign_many(ids, time_ms=np.zeros(_SAMPLE, np.int64)) for plan in (old, new))
    moved = {name: _moved(here[name], there.get(name)) for name in here}
    return PlanChange(tuple(lines), moved)


def ramped(plan: Plan, experiment: str, coverage: float) -> Plan:
    """The plan's next version with another coverage for one experiment; raising it moves no unit, 0 stops the experiment.

    >>> text = "layers: [{name: l, experiments: [{name: e, coverage: 0.1, buckets: [{name: x, weight: 1}]}]}]"
    >>> new = ramped(Plan.from_yaml(text), "e", 0.5)
    >>> new.version, new.experiment("e").coverage
    (2, 0.5)
    """
    plan.experiment(experiment)
    value = copy.deepcopy(dict(plan.source))
    for layer in value["layers"]:
        for row in layer["experiments"]:
            if row["name"] == experiment:
                row["coverage"] = coverage
    value["version"] = plan.version + 1
    return Plan.from_value(value)


def record(store: EventStore, plan: Plan, *, who: str, time_ms: int, note: str = "") -> None:
    """Keep a plan in the store's history: who changed it, when, and what it says."""
    store.record_plan(plan.version, json.dumps(plan.source, default=str), who=who, time_ms=time_ms, note=note)


def history(store: EventStore) -> list[dict[str, Any]]:
    """Every recorded plan with its changes against the one before: `version`, `time_ms`, `who`, `note`, `changes`, `moved`."""
    found: list[dict[str, Any]] = []
    last: Plan | None = None
    for row in store.plans():
        plan = Plan.from_json(row["plan"])
        change = compare_plans(last, plan) if last is not None else PlanChange((), {})
        shown = {key: row[key] for key in ("version", "time_ms", "who", "note")}
        found.append({**shown, "changes": list(change.lines), "moved": dict(change.moved)})
        last = plan
    return found


def _open(plan: Plan) -> PlanValues:
    """The plan without targets, for what a change does to a unit of any attributes."""
    layers = tuple(
        replace(layer, experiments=tuple(replace(experiment, target=None) for experiment in layer.experiments))
        for layer in plan.layers
    )
    return PlanValues(**{**{name: getattr(plan, name) for name in PlanValues.__dataclass_fields__}, "layers": layers})


def _moved(here: Assigned, there: Assigned | None) -> float:
    assigned: Bools = here.bucket >= 0
    if not assigned.any():
        return 0.0
    if there is None:
        return 1.0
    names = [(a.experiment_names(), a.bucket_names()) for a in (here, there)]
    same = (names[0][0] == names[1][0]) & (names[0][1] == names[1][1])
    return float((assigned & ~same).sum() / assigned.sum())


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by path; a list of named things goes by names."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        for item in value:
            yield from _flat({k: v for k, v in item.items() if k != "name"} or {"": ""}, f"{path}.{item['name']}")
    else:
        yield path, value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "none"
