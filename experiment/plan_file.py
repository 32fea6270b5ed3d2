"""From a plan file's plain values to a checked plan: every rule is checked and every broken one is named in one error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from core.errors import ConfigError
from experiment.hashing import fnv1a32
from experiment.metrics import Guardrail, Metric, read_guardrail, read_metric
from experiment.plan_parts import (
    HOLDOUT,
    Analysis,
    Bucket,
    Experiment,
    Holdout,
    Layer,
    PlanValues,
    Switchback,
    arm_seed,
    holdout_seed,
    layer_seed,
)
from experiment.targeting import AttributeKind, Target, check_attributes

_TOP = {"version", "name", "default_strategy", "holdout", "attributes", "layers", "metrics"}
_LAYER = {"name", "unit", "seed", "experiments"}
_EXPERIMENT = {"name", "range", "coverage", "unit", "seed", "target", "buckets", "force", "switchback", "analysis"}
_BUCKET = {"name", "weight", "strategy", "formula", "settings"}
_FORMULA = {"text", "weights", "context", "nonfinite"}
_HOLDOUT = {"share", "unit", "seed", "strategy"}
_ANALYSIS = set(Analysis.__dataclass_fields__)
_SLACK = 1e-9


def read_plan(value: Any, *, strategies: Iterable[str] | None = None) -> PlanValues:
    """Check and build a plan.

    Raises:
        ConfigError: One line with every broken rule.
    """
    reader = _Reader(None if strategies is None else set(strategies))
    plan = reader.plan(value)
    if reader.problems or plan is None:
        n = len(reader.problems)
        shown = "; ".join(reader.problems[:8]) + (f"; and {n - 8} more" if n > 8 else "")
        raise ConfigError(f"plan: {shown}" if n == 1 else f"plan has {n} problems: {shown}")
    return plan


class _Reader:
    def __init__(self, strategies: set[str] | None) -> None:
        self.strategies = strategies
        self.problems: list[str] = []
        self.attributes: dict[str, AttributeKind] = {}
        self.metrics: dict[str, Metric] = {}

    def plan(self, value: Any) -> PlanValues | None:
        if not self._mapping(value, "the plan", _TOP):
            return None
        version = value.get("version", 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            self._add(f"version {version!r} must be a whole number from 1")
            version = 1
        try:
            self.attributes = check_attributes(dict(value.get("attributes") or {}))
        except (ConfigError, TypeError, ValueError) as error:
            self._add(str(error))
        for row in self._list(value.get("metrics"), "metrics"):
            try:
                metric = read_metric(row)
            except ConfigError as error:
                self._add(str(error))
                continue
            if metric.name in self.metrics:
                self._add(f"metric {metric.name!r} is declared twice; names must be unique")
            self.metrics[metric.name] = metric
        default = self._strategy(value.get("default_strategy"), "default_strategy")
        holdout = self._holdout(value["holdout"]) if value.get("holdout") is not None else None
        layers = tuple(filter(None, (self._layer(row) for row in self._list(value.get("layers"), "layers"))))
        self._unique([layer.name for layer in layers] + ([HOLDOUT] if holdout else []), "layer")
        self._unique([e.name for layer in layers for e in layer.experiments] + ([HOLDOUT] if holdout else []), "experiment")
        self._seeds(layers, holdout)
        self._one_strategy_layer(layers, default)
        name = str(value.get("name", "plan"))
        return PlanValues(version, layers, name, default, holdout, self.attributes, self.metrics, source=dict(value))

    def _layer(self, value: Any) -> Layer | None:
        if not self._mapping(value, "a layer", _LAYER):
            return None
        name = self._name(value, "layer")
        unit = self._unit(value.get("unit", "user"), f"layer {name!r}")
        if unit == "switchback":
            self._add(
                f"layer {name!r}: a layer's unit cannot be switchback; give it to an experiment and share the layer by user"
            )
        rows = self._list(value.get("experiments"), f"layer {name!r}: experiments")
        experiments = tuple(filter(None, (self._experiment(row, unit) for row in rows)))
        ordered = sorted(experiments, key=lambda e: (e.low, e.high))
        for left, right in pairwise(ordered):
            if right.low < left.high - _SLACK:
                self._add(
                    f"layer {name!r}: experiments {left.name!r} [{left.low}, {left.high}) and {right.name!r} "
                    f"[{right.low}, {right.high}) overlap; give them disjoint ranges or put one in another layer"
                )
        forced: dict[tuple[str, str], str] = {}
        for experiment in experiments:
            for key in experiment.forced:
                other = forced.setdefault((experiment.unit, key), experiment.name)
                if other != experiment.name:
                    self._add(f"layer {name!r}: unit {key!r} is forced into {other!r} and {experiment.name!r}; keep one")
        return Layer(name, experiments, unit, str(value.get("seed", name)))

    def _experiment(self, value: Any, layer_unit: str) -> Experiment | None:
        if not self._mapping(value, "an experiment", _EXPERIMENT):
            return None
        name = self._name(value, "experiment")
        where = f"experiment {name!r}"
        low, high = self._range(value.get("range", [0.0, 1.0]), where)
        coverage = self._number(value.get("coverage", 1.0), f"{where}: coverage", 0.0, 1.0)
        unit = self._unit(value.get("unit", layer_unit), where)
        buckets = self._buckets(value.get("buckets"), name, where)
        names = [bucket.name for bucket in buckets]
        target = None
        if value.get("target") is not None:
            try:
                target = Target.parse(str(value["target"]), self.attributes)
            except ConfigError as error:
                self._add(f"{where}: {error}")
        forced: dict[str, str] = {}
        force = value.get("force") or {}
        if not isinstance(force, Mapping):
            self._add(f"{where}: force {force!r} must map a bucket to a list of units")
            force = {}
        for bucket, units in force.items():
            if bucket not in names:
                self._add(f"{where}: force names bucket {bucket!r}; buckets are {', '.join(names)}")
            for key in self._list(units, f"{where}: force {bucket}"):
                if forced.setdefault(str(key), str(bucket)) != bucket:
                    self._add(f"{where}: unit {key!r} is forced into {forced[str(key)]!r} and {bucket!r}; keep one")
        switchback = self._switchback(value.get("switchback"), unit, where)
        analysis = self._analysis(value.get("analysis"), names, where)
        seed = str(value.get("seed", name))
        return Experiment(name, tuple(buckets), low, high, coverage, unit, seed, target, forced, switchback, analysis)

    def _buckets(self, value: Any, experiment: str, where: str) -> list[Bucket]:
        buckets = []
        for row in self._list(value, f"{where}: buckets"):
            if not self._mapping(row, f"{where}: a bucket", _BUCKET):
                continue
            name = self._name(row, f"{where}: bucket")
            weight = self._number(row.get("weight"), f"{where}: bucket {name!r}: weight", 0.0, 1.0)
            formula = self._formula(row, f"{where}: bucket {name!r}")
            if formula is None:
                strategy = self._strategy(row.get("strategy"), f"{where}: bucket {name!r}")
            else:
                strategy = f"{experiment}.{name}"
                if self.strategies is not None and strategy in self.strategies:
                    self._add(f"{where}: bucket {name!r}: a strategy {strategy!r} is served already; rename the bucket")
            settings = row.get("settings") or {}
            if not isinstance(settings, Mapping):
                self._add(f"{where}: bucket {name!r}: settings {settings!r} must map names to values")
                settings = {}
            buckets.append(Bucket(name, weight, strategy, dict(settings), formula))
        if not buckets:
            self._add(f"{where} has no buckets; give at least one with a name and a weight")
        self._unique([bucket.name for bucket in buckets], f"{where}: bucket")
        total = math.fsum(bucket.weight for bucket in buckets)
        if total > 1 + 1e-6:
            self._add(f"{where}: bucket weights sum to {total:.6g}, over 1; lower them until they sum to 1")
        elif buckets and total < 0.999:
            self._add(f"{where}: bucket weights sum to {total:.6g}, under 1; raise them to 1 and use coverage for less traffic")
        return buckets

    def _formula(self, row: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
        """The shape of a formula in the plan; its names are checked where the tasks are known, when it is served."""
        value = row.get("formula")
        if value is None or not self._mapping(value, f"{where}: formula", _FORMULA):
            return None
        if row.get("strategy") is not None:
            self._add(f"{where} has a strategy and a formula; keep one")
        text, weights, nonfinite = value.get("text"), value.get("weights") or {}, value.get("nonfinite", "error")
        if not isinstance(text, str) or not text.strip():
            self._add(f"{where}: formula text {text!r} must be a text such as 'w * click + like'")
        if not isinstance(weights, Mapping) or not all(isinstance(k, str) and _is_number(v) for k, v in weights.items()):
            self._add(f"{where}: formula weights {weights!r} must map every parameter to a finite number")
            weights = {}
        if nonfinite != "error" and not _is_number(nonfinite):
            self._add(f"{where}: formula nonfinite {nonfinite!r} must be error or a finite number")
        context = [str(name) for name in self._list(value.get("context"), f"{where}: formula context")]
        plain = {str(name): float(weight) for name, weight in weights.items()}
        return {"text": str(text), "weights": plain, "context": context, "nonfinite": nonfinite}

    def _switchback(self, value: Any, unit: str, where: str) -> Switchback | None:
        if (value is None) != (unit != "switchback"):
            self._add(f"{where}: unit switchback goes with a `switchback` section, and only with it")
            return None
        if value is None or not self._mapping(value, f"{where}: switchback", set(Switchback.__dataclass_fields__)):
            return None
        minutes = self._number(value.get("window_minutes"), f"{where}: window_minutes", 1, 525_600)
        burn_in = self._number(value.get("burn_in_minutes", 0), f"{where}: burn_in_minutes", 0, minutes)
        region = value.get("region")
        if region is not None and region not in self.attributes:
            self._add(f"{where}: switchback region {region!r} is not a declared attribute")
        return Switchback(int(minutes), region, int(burn_in))

    def _analysis(self, value: Any, buckets: list[str], where: str) -> Analysis:
        if value is None:
            return Analysis(metrics=tuple(self.metrics), primary=next(iter(self.metrics), None))
        if not self._mapping(value, f"{where}: analysis", _ANALYSIS):
            return Analysis()
        named = value.get("metrics")
        metrics = tuple(self.metrics) if named is None else tuple(map(str, self._list(named, f"{where}: metrics")))
        guardrails: list[Guardrail] = []
        for row in self._list(value.get("guardrails") or [], f"{where}: guardrails"):
            try:
                guardrails.append(read_guardrail(row))
            except ConfigError as error:
                self._add(f"{where}: {error}")
        primary = value.get("primary", metrics[0] if metrics else None)
        for metric in {*metrics, *(g.metric for g in guardrails), *([primary] if primary else [])}:
            if metric not in self.metrics:
                self._add(f"{where}: unknown metric {metric!r}; metrics are {', '.join(self.metrics) or 'none'}")
        control = value.get("control")
        if control is not None and control not in buckets:
            self._add(f"{where}: control {control!r} is not a bucket; buckets are {', '.join(buckets)}")
        window = value.get("window_days")
        return Analysis(
            metrics,
            primary,
            tuple(guardrails),
            control,
            self._number(value.get("pre_days", 0.0), f"{where}: pre_days", 0.0, 3650.0),
            None if window is None else self._number(window, f"{where}: window_days", 1e-3, 3650.0),
            self._number(value.get("burn_in_days", 0.0), f"{where}: burn_in_days", 0.0, 3650.0),
            bool(value.get("sequential", False)),
            self._number(value.get("alpha", 0.05), f"{where}: alpha", 1e-6, 0.5),
            bool(value.get("shared_inventory", False)),
        )

    def _holdout(self, value: Any) -> Holdout | None:
        if not self._mapping(value, "holdout", _HOLDOUT):
            return None
        share = self._number(value.get("share"), "holdout: share", 0.0, 0.999)
        strategy = self._strategy(value.get("strategy"), "holdout")
        return Holdout(share, self._unit(value.get("unit", "user"), "holdout"), str(value.get("seed", HOLDOUT)), strategy)

    def _one_strategy_layer(self, layers: tuple[Layer, ...], default: str | None) -> None:
        deciding = [layer.name for layer in layers if any(b.strategy for e in layer.experiments for b in e.buckets)]
        if len(deciding) > 1:
            self._add(
                f"layers {', '.join(deciding)} all name strategies, but a request is served by one; "
                "keep strategies in one layer and use `settings` in the others"
            )
        if deciding and default is None:
            self._add("buckets name strategies but there is no default_strategy for the units outside them; add one")

    def _seeds(self, layers: tuple[Layer, ...], holdout: Holdout | None) -> None:
        seeds = {f"layer {layer.name!r}": layer_seed(layer) for layer in layers}
        seeds |= {f"experiment {e.name!r}": arm_seed(e) for layer in layers for e in layer.experiments}
        if holdout:
            seeds["the holdout"] = holdout_seed(holdout)
        seen: dict[int, str] = {}
        for owner, seed in seeds.items():
            other = seen.setdefault(fnv1a32(seed), owner)
            if other != owner:
                self._add(f"{owner} and {other} hash with the same seed; give one another `seed` so that they stay independent")

    def _range(self, value: Any, where: str) -> tuple[float, float]:
        if not isinstance(value, list) or len(value) != 2:
            self._add(f"{where}: range {value!r} must be [low, high]")
            return 0.0, 0.0
        low, high = (self._number(edge, f"{where}: range", 0.0, 1.0) for edge in value)
        if low >= high:
            self._add(f"{where}: range [{low}, {high}) is empty; low must be under high")
        return low, high

    def _number(self, value: Any, where: str, low: float, high: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            self._add(f"{where} {value!r} must be a number from {low:g} to {high:g}")
            return low
        return float(value)

    def _strategy(self, value: Any, where: str) -> str | None:
        if value is None:
            return None
        if self.strategies is not None and value not in self.strategies:
            self._add(f"{where}: unknown strategy {value!r}; strategies are {', '.join(sorted(self.strategies)) or 'none'}")
        return str(value)

    def _unit(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value.isidentifier():
            self._add(f"{where}: unit {value!r} is not a name; use user, device, session or another identifier")
            return "user"
        return value

    def _name(self, value: Mapping[str, Any], what: str) -> str:
        name = value.get("name")
        if not isinstance(name, str) or not name or len(name) > 100 or not name.isprintable():
            self._add(f"{what} name {name!r} must be a text of 1 to 100 printable characters")
            return "?"
        return name

    def _list(self, value: Any, where: str) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self._add(f"{where} must be a list, not {type(value).__name__}")
            return []
        return value

    def _mapping(self, value: Any, where: str, known: set[str]) -> bool:
        if not isinstance(value, Mapping):
            self._add(f"{where} must be a mapping, not {type(value).__name__}")
            return False
        for key in value:
            if key not in known:
                name = f" {value['name']!r}" if isinstance(value.get("name"), str) else ""
                self._add(f"{where}{name}: unknown field {key!r}; fields are {', '.join(sorted(known))}")
        return True

    def _unique(self, names: list[str], what: str) -> None:
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._add(f"{what} {name!r} is declared twice; names must be unique")

    def _add(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
