"""The plan: layers, experiments, buckets and a holdout in one YAML or JSON file, validated as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from core.arrays import AnyArray, Columns
from core.errors import ConfigError
from experiment.assign import Assigned, Assigner, Assignment
from experiment.plan_file import read_plan
from experiment.plan_parts import HELD_OUT, HOLDOUT, IN_TRAFFIC, Analysis, Bucket, Experiment, PlanValues


class Plan(PlanValues):
    """All experiments that run at one time.

    >>> plan = Plan.from_yaml('''
    ... version: 1
    ... default_strategy: hand_set
    ... layers:
    ...   - name: fusion
    ...     experiments:
    ...       - name: searched
    ...         buckets:
    ...           - {name: control, weight: 0.5, strategy: hand_set}
    ...           - {name: treatment, weight: 0.5, strategy: searched}
    ... ''', strategies=["hand_set", "searched"])
    >>> plan.assign("user-7")["fusion"].bucket
    'treatment'
    """

    @classmethod
    def from_yaml(cls, source: str | Path, *, strategies: Iterable[str] | None = None) -> Plan:
        """Read a plan from a file (a `Path`, or a text of one line that ends in .yaml, .yml or .json) or from its text.

        Args:
            strategies: Names that buckets may serve; None leaves them unchecked.

        Raises:
            ConfigError: Any rule is broken; the message lists every broken rule.
        """
        text = _text(source)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"plan is not YAML: {' '.join(str(error).split())}") from error
        return cls.from_value(value, strategies=strategies)

    @classmethod
    def from_json(cls, source: str | Path, *, strategies: Iterable[str] | None = None) -> Plan:
        """As `from_yaml`, for JSON."""
        try:
            value = json.loads(_text(source))
        except ValueError as error:
            raise ConfigError(f"plan is not JSON: {error}") from error
        return cls.from_value(value, strategies=strategies)

    @classmethod
    def from_value(cls, value: Any, *, strategies: Iterable[str] | None = None) -> Plan:
        """A plan from plain JSON values."""
        return cls(**vars(read_plan(value, strategies=strategies)))

    def to_value(self) -> dict[str, Any]:
        """The plain values it was read from."""
        return dict(self.source)

    @property
    def fingerprint(self) -> str:
        """A sha256 of the plan's values."""
        return hashlib.sha256(json.dumps(self.source, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """Experiments by name."""
        return {experiment.name: experiment for layer in self.layers for experiment in layer.experiments}

    def experiment(self, name: str) -> Experiment:
        """One experiment by name; `holdout` is the comparison of held-out units with all others."""
        if name == HOLDOUT and self.holdout is not None:
            buckets = (Bucket(HELD_OUT, self.holdout.share), Bucket(IN_TRAFFIC, 1 - self.holdout.share))
            metrics = tuple(self.metrics)
            analysis = Analysis(metrics=metrics, primary=metrics[0] if metrics else None)
            return Experiment(HOLDOUT, buckets, unit=self.holdout.unit, analysis=analysis)
        if name not in self.experiments:
            raise ConfigError(f"the plan has no experiment {name!r}; it has {', '.join(self.experiments) or 'none'}")
        return self.experiments[name]

    @property
    def strategies(self) -> tuple[str, ...]:
        """Every strategy the plan can serve, the default first."""
        named = [self.default_strategy, self.holdout.strategy if self.holdout else None]
        named += [bucket.strategy for experiment in self.experiments.values() for bucket in experiment.buckets]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def formulas(self) -> dict[str, Mapping[str, Any]]:
        """Formulas that the plan itself holds, by the strategy name of their bucket."""
        buckets = [bucket for experiment in self.experiments.values() for bucket in experiment.buckets]
        return {str(b.strategy): b.formula for b in buckets if b.formula is not None}

    @cached_property
    def assigner(self) -> Assigner:
        """The plan compiled for assignment; made once."""
        return Assigner(self)

    def assign(
        self, units: str | Mapping[str, str], attributes: Mapping[str, Any] | None = None, *, time_ms: int = 0
    ) -> dict[str, Assignment]:
        """The assignment in every layer that has one for this unit. See `Assigner.assign`."""
        return self.assigner.assign(units, attributes, time_ms=time_ms)

    def assign_many(
        self, units: AnyArray | Mapping[str, AnyArray], attributes: Columns | None = None, *, time_ms: AnyArray | None = None
    ) -> dict[str, Assigned]:
        """The same for `[n]` units at once. See `Assigner.assign_many`."""
        return self.assigner.assign_many(units, attributes, time_ms=time_ms)

    def strategy_for(self, assignments: Mapping[str, Assignment]) -> str | None:
        """The strategy that serves a request: the one its assignments name, else the plan's default."""
        for assignment in assignments.values():
            if assignment.strategy is not None:
                return assignment.strategy
        return self.default_strategy


def _text(source: str | Path) -> str:
    if isinstance(source, str) and ("\n" in source or not source.endswith((".yaml", ".yml", ".json"))):
        return source
    try:
        return Path(source).read_text()
    except OSError as error:
        raise ConfigError(f"plan file {str(source)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"plan file {str(source)!r} is not UTF-8 text") from error
