"""Assignment: a pure function of the plan, the unit and its attributes, for one request or a million units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from core.arrays import AnyArray, Bools, Columns, Floats, Ints
from core.errors import DataError
from experiment.hashing import (
    Texts,
    bucket_ranges,
    compiled,
    fnv1a32,
    place_number,
    place_numbers,
    places_of_texts,
    seed_states,
    text_buffers,
)
from experiment.plan_parts import HELD_OUT, HOLDOUT, IN_TRAFFIC, Experiment, Layer, PlanValues, arm_seed, holdout_seed, layer_seed
from experiment.targeting import encode_columns

_NOTHING: Mapping[str, Any] = {}


class Assignment(NamedTuple):
    """Which bucket of a layer answers a unit. `forced` units are kept out of every analysis."""

    layer: str
    experiment: str
    bucket: str
    strategy: str | None
    unit: str
    forced: bool
    settings: Mapping[str, Any] = _NOTHING


@dataclass(frozen=True)
class Assigned:
    """One layer's assignment of `[n]` units: codes into the names, -1 where a unit is in no experiment."""

    experiments: tuple[str, ...]
    buckets: tuple[str, ...]
    experiment: Ints
    bucket: Ints
    forced: Bools

    def experiment_names(self) -> AnyArray:
        """Experiment of every unit `[n]`, None where it has none."""
        return _named(self.experiments, self.experiment)

    def bucket_names(self) -> AnyArray:
        """Bucket of every unit `[n]`, None where it has none."""
        return _named(self.buckets, self.bucket)


class Assigner:
    """A plan compiled: every seed is hashed once, every arm's range is computed once."""

    def __init__(self, plan: PlanValues) -> None:
        self.plan = plan
        seeds: dict[str, list[str]] = {}

        def slot(unit: str, seed: str) -> tuple[str, int]:
            of_unit = seeds.setdefault(unit, [])
            of_unit.append(seed)
            return unit, len(of_unit) - 1

        self._holdout = slot(plan.holdout.unit, holdout_seed(plan.holdout)) if plan.holdout else None
        self._holdout_state = fnv1a32(holdout_seed(plan.holdout)) if plan.holdout else 0
        self._layers = [_CompiledLayer(layer, slot) for layer in plan.layers]
        self._states = {unit: seed_states(of_unit) for unit, of_unit in seeds.items()}

    def assign(
        self, units: str | Mapping[str, str], attributes: Mapping[str, Any] | None = None, *, time_ms: int = 0
    ) -> dict[str, Assignment]:
        """The assignment in every layer that has one.

        A forced unit gets its bucket whatever else holds. Then the holdout decides, then each layer's range, the target, and
        the coverage of the buckets. Where the plan has a holdout, `holdout` is one more layer with the buckets
        `held_out` and `in_traffic`.

        Args:
            units: Ids by unit kind (`user`, `device`, `session`, ...); a text alone is the user's id. An experiment whose kind is
                absent is skipped.
            attributes: What targets and switchback regions read.
            time_ms: The request's time; switchback experiments need it.
        """
        ids = {"user": units} if isinstance(units, str) else units
        known = attributes if attributes is not None else _NOTHING
        drawn = {unit: place_numbers(states, ids[unit].encode()).tolist() for unit, states in self._states.items() if unit in ids}
        found: dict[str, Assignment] = {}
        held_out = False
        plan = self.plan
        if self._holdout is not None and plan.holdout is not None:
            unit, index = self._holdout
            if unit in drawn:
                held_out = drawn[unit][index] / 10_000 < plan.holdout.share
                strategy = (plan.holdout.strategy or plan.default_strategy) if held_out else None
                found[HOLDOUT] = Assignment(HOLDOUT, HOLDOUT, HELD_OUT if held_out else IN_TRAFFIC, strategy, ids[unit], False)
        for layer in self._layers:
            assignment = layer.forced_assignment(ids)
            if assignment is None and not held_out:
                assignment = layer.assign(ids, drawn, known, time_ms)
            if assignment is not None:
                found[layer.name] = assignment
        return found

    def assign_many(
        self, units: AnyArray | Mapping[str, AnyArray], attributes: Columns | None = None, *, time_ms: AnyArray | None = None
    ) -> dict[str, Assigned]:
        """The same decisions for `[n]` units, by layer.

        Args:
            units: Ids `[n]`, or ids by unit kind.
            attributes: Columns `[n]`.
            time_ms: `[n]`, for switchback experiments.
        """
        ids = units if isinstance(units, Mapping) else {"user": units}
        lengths = {len(column) for column in ids.values()}
        if len(lengths) != 1:
            raise DataError(f"unit columns have {sorted(lengths)} rows; give one id per row and kind")
        n = lengths.pop()
        texts = {kind: text_buffers(column) for kind, column in ids.items()}
        admits = _Admission(attributes or {}, n)
        found: dict[str, Assigned] = {}
        if self._holdout is not None and self.plan.holdout is not None and self._holdout[0] in texts:
            place = _places(self._holdout_state, texts[self._holdout[0]])
            admits.open = place >= self.plan.holdout.share
            zero = np.zeros(n, np.int64)
            found[HOLDOUT] = Assigned((HOLDOUT,), (HELD_OUT, IN_TRAFFIC), zero, admits.open.astype(np.int64), zero > 0)
        for layer in self._layers:
            found[layer.name] = layer.assign_many(ids, texts, admits, time_ms)
        return found


class _Admission:
    """Who may enter an experiment: everybody but the held out, narrowed by targets that are worked out once each."""

    def __init__(self, columns: Columns, n: int) -> None:
        self.columns = columns
        self.open: Bools = np.ones(n, bool)
        self._encoded = encode_columns(columns)
        self._targets: dict[str, Bools] = {}

    def of(self, experiment: Experiment) -> Bools:
        target = experiment.target
        if target is None:
            return self.open
        if target.text not in self._targets:
            self._targets[target.text] = target.matches_many(self._encoded, len(self.open))
        return self.open & self._targets[target.text]


class _CompiledLayer:
    def __init__(self, layer: Layer, slot: Any) -> None:
        self.name = layer.name
        self.unit, self.index = slot(layer.unit, layer_seed(layer))
        self._state = fnv1a32(layer_seed(layer))
        self.experiments: list[_CompiledExperiment] = []
        for experiment in layer.experiments:
            place = None if experiment.switchback else slot(experiment.unit, arm_seed(experiment))
            self.experiments.append(_CompiledExperiment(layer.name, experiment, place))
        self.with_forced = [experiment for experiment in self.experiments if experiment.source.forced]
        self.buckets = tuple(dict.fromkeys(b.name for e in layer.experiments for b in e.buckets))

    def forced_assignment(self, ids: Mapping[str, str]) -> Assignment | None:
        for experiment in self.with_forced:
            unit = ids.get(experiment.source.unit)
            bucket = experiment.source.forced.get(unit) if unit is not None else None
            if unit is not None and bucket is not None:
                return experiment.answer(experiment.names.index(bucket), unit, forced=True)
        return None

    def assign(
        self, ids: Mapping[str, str], drawn: Mapping[str, list[int]], known: Mapping[str, Any], time_ms: int
    ) -> Assignment | None:
        if self.unit not in drawn:
            return None
        place = drawn[self.unit][self.index] / 10_000
        for experiment in self.experiments:
            if experiment.low <= place < experiment.high:
                return experiment.assign(ids, drawn, known, time_ms)
        return None

    def assign_many(
        self, ids: Mapping[str, AnyArray], texts: Mapping[str, Texts], admits: _Admission, time_ms: AnyArray | None
    ) -> Assigned:
        n = len(admits.open)
        experiment_of = np.full(n, -1, np.int64)
        bucket_of = np.full(n, -1, np.int64)
        forced_of = np.zeros(n, bool)
        place = _places(self._state, texts[self.unit]) if self.unit in texts else None
        for code, experiment in enumerate(self.experiments):
            unit = experiment.texts(texts, admits.columns, time_ms)
            if place is not None and unit is not None:
                codes = np.array([self.buckets.index(name) for name in experiment.names], np.int64)
                rows = (place >= experiment.low) & (place < experiment.high) & admits.of(experiment.source)
                _arms_kernel(experiment.state, *unit, rows, experiment.edges, codes, code, experiment_of, bucket_of)
        for code, experiment in enumerate(self.experiments):
            if experiment.source.unit in ids:
                for forced, bucket in experiment.source.forced.items():
                    rows = _equals(ids[experiment.source.unit], forced)
                    experiment_of[rows], bucket_of[rows], forced_of[rows] = code, self.buckets.index(bucket), True
        return Assigned(tuple(e.source.name for e in self.experiments), self.buckets, experiment_of, bucket_of, forced_of)


class _CompiledExperiment:
    def __init__(self, layer: str, experiment: Experiment, place: tuple[str, int] | None) -> None:
        self.source = experiment
        self.low, self.high = experiment.low, experiment.high
        self.place = place
        self.names = [bucket.name for bucket in experiment.buckets]
        self.ranges = bucket_ranges(len(self.names), experiment.coverage, [bucket.weight for bucket in experiment.buckets])
        self.edges = np.array(self.ranges, float).reshape(-1, 2)
        self.state = fnv1a32(arm_seed(experiment))
        self._layer = layer

    def answer(self, arm: int, unit: str, *, forced: bool) -> Assignment:
        bucket = self.source.buckets[arm]
        return Assignment(self._layer, self.source.name, bucket.name, bucket.strategy, unit, forced, bucket.settings)

    def assign(
        self, ids: Mapping[str, str], drawn: Mapping[str, list[int]], known: Mapping[str, Any], time_ms: int
    ) -> Assignment | None:
        source = self.source
        if source.target is not None and not source.target.matches(known):
            return None
        if self.place is None:
            unit = switchback_unit(source, known, time_ms)
            number = int(place_numbers(np.array([self.state]), unit.encode())[0])
        else:
            kind, index = self.place
            if kind not in drawn:
                return None
            unit, number = ids[kind], drawn[kind][index]
        place = number / 10_000
        for arm, (low, high) in enumerate(self.ranges):
            if low <= place < high:
                return self.answer(arm, unit, forced=False)
        return None

    def texts(self, texts: Mapping[str, Texts], columns: Columns, time_ms: AnyArray | None) -> Texts | None:
        """What the arms are drawn by; None when the unit's kind is absent."""
        if self.place is not None:
            return texts.get(self.source.unit)
        if time_ms is None:
            raise DataError(f"experiment {self.source.name!r} switches back over time; give time_ms")
        return text_buffers(switchback_units(self.source, columns, time_ms))


def switchback_unit(experiment: Experiment, attributes: Mapping[str, Any], time_ms: int) -> str:
    """The unit `region@window` of a switchback experiment at a time."""
    rule = experiment.switchback
    if rule is None:
        raise DataError(f"experiment {experiment.name!r} is not a switchback")
    region = attributes.get(rule.region, "") if rule.region else ""
    return f"{region}@{time_ms // (rule.window_minutes * 60_000)}"


def switchback_units(experiment: Experiment, attributes: Columns, time_ms: AnyArray) -> AnyArray:
    """The same for `[n]` requests."""
    rule = experiment.switchback
    region = rule.region if rule else None
    regions = np.asarray(attributes[region]).tolist() if region and region in attributes else [""] * len(time_ms)
    rows = zip(regions, time_ms.tolist(), strict=True)
    return np.array([switchback_unit(experiment, {region or "": r}, t) for r, t in rows], dtype=object)


def _equals(column: AnyArray | pa.Array, unit: str) -> Bools:
    values = np.asarray(column)
    if values.dtype.kind in "iu":
        return values == int(unit) if unit.lstrip("-").isdigit() else np.zeros(len(values), bool)
    return np.asarray(values == unit, bool)


def _named(names: tuple[str, ...], codes: Ints) -> AnyArray:
    return np.array([*names, None], dtype=object)[codes]


def _places(state: int, texts: Texts) -> Floats:
    drawn: Floats = places_of_texts(np.array([state], np.int64), *texts)[0]
    return drawn


@compiled
def _arms_kernel(
    state: int,
    offsets: Ints,
    data: AnyArray,
    rows: Bools,
    edges: Floats,
    codes: Ints,
    code: int,
    experiment_of: Ints,
    bucket_of: Ints,
) -> None:
    """Draw the arm of the chosen rows and write it where one is found."""
    for row in range(rows.shape[0]):
        if not rows[row]:
            continue
        place = place_number(state, data[offsets[row] : offsets[row + 1]]) / 10_000
        for arm in range(edges.shape[0]):
            if edges[arm, 0] <= place < edges[arm, 1]:
                experiment_of[row] = code
                bucket_of[row] = codes[arm]
                break
