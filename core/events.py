"""What happens online: a request is ranked into a slate, shown items become exposures, and users answer with feedback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from core.arrays import Columns, Floats, Floats32, Ints
from core.scores import ScoreTable

SCORE = "score_"  # a task's logged prediction is the column `score_<task>`
WEIGHT = "weight_"  # a strategy's logged parameter is the column `weight_<name>`
AT = "at_"  # how often a task happened at each position of a page is the column `at_<task>`, `[n, k]`


@dataclass(frozen=True, slots=True)
class Request:
    """One user asks for a page.

    `candidates` `[n]` are item ids. `features` holds item columns `[n]` when the caller sent them inline; otherwise the service
    looks them up. `context` holds what only the request knows (hour, query, ...).
    """

    request_id: str
    user_id: str
    candidates: Ints
    scenario: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    features: Columns | None = None
    page_size: int = 10
    time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer: the items shown, best first, with what was known when they were chosen.

    Shapes: `items`, `final` `[k]`; `scores.values` `[k, n_tasks]`. `propensity` is the density (or probability) with which the
    logging policy chose the action behind this slate; NaN when unknown.
    """

    request_id: str
    items: Ints
    final: Floats
    scores: ScoreTable
    strategy: str
    versions: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)
    propensity: float = float("nan")
    buckets: Mapping[str, str] = field(default_factory=dict)
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy saw and did for one request, as the log keeps it for learning.

    Shapes: `state` `[n_obs]`; `action`, `baseline` `[n_params]` in [-1, 1], what was done and what would have been done without
    exploring. `component` names what the action was drawn from (empty without exploration), `component_density` is that
    component's density there, and `box` half the width of the box around the baseline (NaN without one).
    """

    state: Floats32
    action: Floats32
    baseline: Floats32
    component: str = ""
    component_density: float = float("nan")
    box: float = float("nan")

    @property
    def explores(self) -> bool:
        """Whether the action was drawn at random."""
        return bool(self.component)


# One row a request. `candidates` and `candidate_scores` (float16, row-major [n, n_tasks]) are kept for a share of requests and
# wherever a policy explores; `session` and `step` are the caller's; what follows is a policy's `Decision`, null for others.
REQUEST_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("time_ms", pa.int64()),
        ("user_id", pa.string()),
        ("scenario", pa.string()),
        ("n_candidates", pa.int32()),
        ("ranker_version", pa.string()),
        ("strategy", pa.string()),
        ("strategy_version", pa.string()),
        ("tasks", pa.list_(pa.string())),
        ("weight_names", pa.list_(pa.string())),
        ("weights", pa.list_(pa.float64())),
        ("propensity", pa.float64()),
        ("degraded", pa.string()),
        ("candidates", pa.binary()),
        ("candidate_scores", pa.binary()),
        ("session", pa.string()),
        ("step", pa.int32()),
        ("state", pa.list_(pa.float32())),
        ("action", pa.list_(pa.float32())),
        ("baseline", pa.list_(pa.float32())),
        ("component", pa.string()),
        ("component_density", pa.float64()),
        ("box", pa.float64()),
    ]
)

# One row a request and layer: which bucket answered, and for which unit.
ASSIGNMENT_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("time_ms", pa.int64()),
        ("layer", pa.string()),
        ("experiment", pa.string()),
        ("bucket", pa.string()),
        ("unit", pa.string()),
        ("forced", pa.bool_()),
        ("plan_version", pa.int64()),
    ]
)

# One row a shown item. `scores` follows the request's `tasks`.
EXPOSURE_SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("time_ms", pa.int64()),
        ("user_id", pa.string()),
        ("item_id", pa.int64()),
        ("position", pa.int32()),
        ("scores", pa.list_(pa.float32())),
        ("final", pa.float64()),
    ]
)

# One row an answer of the user; `event_id` makes it idempotent, `task` is what it says, `value` how much of it.
FEEDBACK_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("request_id", pa.string()),
        ("item_id", pa.int64()),
        ("task", pa.string()),
        ("value", pa.float64()),
        ("time_ms", pa.int64()),
    ]
)
