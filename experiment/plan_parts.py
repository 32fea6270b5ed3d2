"""What a plan is made of: buckets, experiments, layers, a holdout, and the seeds that keep their hashes independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import ConfigError
from experiment.metrics import Guardrail, Metric
from experiment.targeting import AttributeKind, Target

HOLDOUT = "holdout"  # the reserved layer and experiment whose buckets are these two
HELD_OUT, IN_TRAFFIC = "held_out", "in_traffic"


@dataclass(frozen=True, slots=True)
class Bucket:
    """An arm: its share of the experiment, the strategy it serves, and free settings for layers that decide something else.

    Args:
        strategy: A published strategy's name, or for an arm with a formula of its own `experiment.bucket`.
        formula: `text`, `weights` by parameter, `context` names, and `nonfinite` ("error" or a number), when the plan itself
            holds it.
    """

    name: str
    weight: float
    strategy: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    formula: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Switchback:
    """Time x region as the unit: windows of `window_minutes`; the first `burn_in_minutes` of each are not analysed."""

    window_minutes: int
    region: str | None = None
    burn_in_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Analysis:
    """How an experiment is read. Days count from each unit's first exposure (`window_days`) or before it (`pre_days`)."""

    metrics: tuple[str, ...] = ()
    primary: str | None = None
    guardrails: tuple[Guardrail, ...] = ()
    control: str | None = None
    pre_days: float = 0.0
    window_days: float | None = None
    burn_in_days: float = 0.0
    sequential: bool = False
    alpha: float = 0.05
    shared_inventory: bool = False


@dataclass(frozen=True, slots=True)
class Experiment:
    """Buckets for the part `[low, high)` of a layer's units that `target` admits; `coverage` of each bucket is live."""

    name: str
    buckets: tuple[Bucket, ...]
    low: float = 0.0
    high: float = 1.0
    coverage: float = 1.0
    unit: str = "user"
    seed: str = ""
    target: Target | None = None
    forced: Mapping[str, str] = field(default_factory=dict)  # unit -> bucket
    switchback: Switchback | None = None
    analysis: Analysis = Analysis()

    def bucket(self, name: str) -> Bucket:
        """One bucket by name."""
        for bucket in self.buckets:
            if bucket.name == name:
                return bucket
        names = ", ".join(bucket.name for bucket in self.buckets)
        raise ConfigError(f"experiment {self.name!r} has no bucket {name!r}; buckets are {names}")

    @property
    def control(self) -> str:
        """The bucket the others are compared with: as declared, else the first."""
        return self.analysis.control or self.buckets[0].name

    @property
    def weights(self) -> dict[str, float]:
        """Expected share of each bucket."""
        return {bucket.name: bucket.weight for bucket in self.buckets}


@dataclass(frozen=True, slots=True)
class Layer:
    """Experiments that exclude one another; layers are independent because each hashes with its own seed."""

    name: str
    experiments: tuple[Experiment, ...]
    unit: str = "user"
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Holdout:
    """A share of units that no experiment touches, decided before all layers."""

    share: float
    unit: str = "user"
    seed: str = HOLDOUT
    strategy: str | None = None


@dataclass(frozen=True)
class PlanValues:
    """A plan's content, checked; `experiment.plan.Plan` adds what one does with it."""

    version: int
    layers: tuple[Layer, ...]
    name: str = "plan"
    default_strategy: str | None = None
    holdout: Holdout | None = None
    attributes: Mapping[str, AttributeKind] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


def holdout_seed(holdout: Holdout) -> str:
    """The seed that decides who is held out."""
    return f"holdout/{holdout.seed}/"


def layer_seed(layer: Layer) -> str:
    """The seed that decides which experiment of a layer a unit is in."""
    return f"layer/{layer.seed}/"


def arm_seed(experiment: Experiment) -> str:
    """The seed that decides the bucket inside an experiment."""
    return f"arms/{experiment.seed}/"
