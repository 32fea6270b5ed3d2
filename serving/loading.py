"""Loading: settings name artefacts and tables; here they become a release, a plan and an engine, all checked before serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from core.arrays import AnyArray, Floats32
from core.artefacts import ArtefactStore
from core.errors import ConfigError, DataError, ScorefusionError
from core.events import Request
from core.logs import LoggedDataset
from experiment.plan import Plan
from fusion.strategy import FormulaStrategy, load_strategy
from ranker.predictor import Encoded, Predictor
from serving.engine import Assignment, Engine
from serving.features import FeatureTables
from serving.published import check_fit, named, reference_of
from serving.release import Release
from serving.rules import Rules
from serving.settings import Settings


class ScoringPredictor:
    """A published ranker as the engine's `Ranker`."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    @property
    def names(self) -> tuple[str, ...]:
        """Tasks with one number per candidate."""
        return self.predictor.scored

    def score(self, user: Any, request: Any, items: Any) -> Floats32:
        """Scores of one user's candidates `[n, n_tasks]`."""
        return self.predictor.score_encoded(user, request, items)


@dataclass(frozen=True)
class Loaded:
    """What one replica serves with."""

    engine: Engine
    plan: ServedPlan | None
    tables: FeatureTables
    info: Mapping[str, Any]


class ServedPlan:
    """A plan as the engine and the API use it."""

    def __init__(self, plan: Plan, version: int) -> None:
        self.plan = plan
        self.version = version

    @property
    def experiments(self) -> list[str]:
        """Names of the experiments."""
        return list(self.plan.experiments)

    def to_json(self) -> Mapping[str, Any]:
        """The plan as JSON values."""
        return self.plan.to_value()

    def assign(self, request: Request) -> Mapping[str, Assignment]:
        """Buckets of a request's units by layer. Units beside the user (`device`, `session`, ...) are read from the context."""
        context = request.context
        units = (
            {"user": request.user_id, **{k: str(v) for k, v in context.items() if k in _UNITS}} if context else request.user_id
        )
        return self.plan.assign(units, {"scenario": request.scenario, **context}, time_ms=request.time_ms)

    def assignments(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Buckets by layer for a unit's attributes, as JSON values."""
        user = str(attributes["user_id"])
        units = {"user": user, **{k: str(v) for k, v in attributes.items() if k in _UNITS}}
        return {
            layer: {"experiment": a.experiment, "bucket": a.bucket, "strategy": a.strategy, "unit": a.unit, "forced": a.forced}
            for layer, a in self.plan.assign(units, attributes).items()
        }


_UNITS = ("device", "session")


def load(settings: Settings) -> Loaded:
    """Everything the settings name.

    Raises:
        ScorefusionError: An artefact, a table or the plan is missing, damaged, or does not fit the others.
    """
    torch.set_num_threads(settings.threads)
    settings, published = named(settings)
    store = ArtefactStore(settings.resolve(settings.artefacts))
    ranker = store.find(settings.ranker)
    predictor = Predictor.load(ranker)
    artefacts = {name: store.find(label) for name, label in settings.strategies.items()}
    check_fit(ranker.label, artefacts)
    strategies = {name: load_strategy(artefact) for name, artefact in artefacts.items()}
    users = LoggedDataset.from_parquet(settings.resolve(settings.users))
    tables = load_tables(settings, predictor, users)
    plan = load_plan(settings)
    inline = inline_strategies(plan, predictor.scored)
    release = Release(
        ScoringPredictor(predictor),
        tables,
        {**strategies, **inline},
        (plan.plan.default_strategy if plan is not None else None) or settings.default_strategy,
        {
            **({"release": published.label} if published else {}),
            "ranker": ranker.label,
            **{name: artefact.label for name, artefact in artefacts.items()},
            **{name: f"plan/v{plan.version}" for name in inline if plan is not None},
        },
        {name: _kind(artefact.config) for name, artefact in artefacts.items()},
        profiles(users, [column for strategy in strategies.values() for column in getattr(strategy, "user_columns", ())]),
        None if published is None else reference_of(published),
    )
    engine = Engine(
        release,
        assign=None if plan is None else plan.assign,
        plan_version=0 if plan is None else plan.version,
        rules=Rules.parse(settings.rules, tables.column),
        deadline_ms=settings.deadline_ms,
    )
    warm_up(engine, tables)
    info = {
        "item_features": [f.column for f in predictor.spec.side("item")],
        "n_items": tables.n_items,
        "n_users": tables.n_users,
        "plan_version": 0 if plan is None else plan.version,
    }
    return Loaded(engine, plan, tables, info)


def load_tables(settings: Settings, predictor: Predictor, users: LoggedDataset) -> FeatureTables:
    """The item and user tables, encoded by this ranker."""
    spec = predictor.spec
    return FeatureTables(
        predictor,
        LoggedDataset.from_parquet(settings.resolve(settings.items)).columns,
        users.columns,
        request=[f.column for f in spec.side("request")],
        item_columns=[f.column for f in spec.side("item")],
        numeric={f.column for f in spec.features if f.kind == "dense" or f.bins},
        matrix=item_matrix(predictor),
    )


def profiles(users: LoggedDataset, columns: Sequence[str]) -> Callable[[str], Mapping[str, Any]] | None:
    """The raw columns that policies read, by user id; None where no policy reads any.

    Raises:
        ConfigError: The user table lacks one.
    """
    if not columns:
        return None
    missing = [column for column in columns if column not in users]
    if missing:
        raise ConfigError(f"a policy's state reads user column {missing[0]!r}; the user table has {', '.join(users)}")
    row = {str(user): index for index, user in enumerate(users["user_id"].tolist())}
    values = {column: users[column].tolist() for column in dict.fromkeys(columns)}
    nobody: Mapping[str, Any] = {}

    def profile(user_id: str) -> Mapping[str, Any]:
        at = row.get(user_id)
        return nobody if at is None else {column: entries[at] for column, entries in values.items()}

    return profile


def item_matrix(predictor: Predictor) -> Callable[[AnyArray], Encoded] | None:
    """Encodes item features `[n, n_features]` in one step, where every one of them is a plain or standardised number."""
    features = predictor.spec.side("item")
    if not features or any(
        f.kind != "dense" or f.transform not in ("none", "standard") or f.missing != "error" for f in features
    ):
        return None
    numbers = [predictor.encoder.numbers[f.name] for f in features]
    standard = np.array([f.transform == "standard" for f in features])
    mean = np.where(standard, [n.mean for n in numbers], 0.0).astype(np.float32)
    scale = np.where(standard, [1 / n.std for n in numbers], 1.0).astype(np.float32)

    def encode(block: AnyArray) -> Encoded:
        if block.ndim != 2 or block.shape[1] != len(mean):
            raise DataError(f"column dense has shape {block.shape}; the ranker reads {len(mean)} numbers an item")
        values = block.astype(np.float32)
        values -= mean
        values *= scale
        return Encoded("item", torch.from_numpy(values))

    return encode


def load_plan(settings: Settings) -> ServedPlan | None:
    """The plan file, checked against the strategies that are served."""
    if not settings.plan:
        return None
    settings, _ = named(settings)
    plan = Plan.from_yaml(settings.resolve(settings.plan), strategies=list(settings.strategies))
    return ServedPlan(plan, plan.version)


def inline_strategies(plan: ServedPlan | None, tasks: Sequence[str]) -> dict[str, FormulaStrategy]:
    """The formulas that the plan's buckets hold themselves, over the ranker's tasks."""
    found = {}
    for name, value in (plan.plan.formulas if plan is not None else {}).items():
        try:
            found[name] = FormulaStrategy.from_plain(value, tasks)
        except ConfigError as error:
            raise ConfigError(f"plan: bucket {name}: {error}") from error
    return found


def warm_up(engine: Engine, tables: FeatureTables, n: int = 200) -> None:
    """Rank a few pages before the first caller does, so that nobody pays for lazy initialisation.

    Raises:
        ScorefusionError: The release cannot rank at all.
    """
    candidates = np.arange(n, dtype=np.int64)
    for round_ in range(20):
        ranked = engine.run(Request(f"warm-up-{round_}", "warm-up", candidates))
    if not ranked.table.tasks:
        raise ScorefusionError(f"the release cannot rank its own tables: {ranked.slate.degraded}")


def _kind(config: Mapping[str, Any]) -> str:
    """A strategy's rung on the ladder of fallbacks.

    >>> [_kind({"strategy": kind}) for kind in ("formula", "segmented_formula", "rank_fusion", "policy", "lambdamart")]
    ['formula', 'formula', 'formula', 'policy', 'learned']
    """
    kind = str(config.get("strategy", "formula"))
    if "formula" in kind or kind == "rank_fusion":
        return "formula"
    return "policy" if "policy" in kind else "learned"
