"""Search: judge formulas on logged impressions, look for better parameters, and say honestly how much better they are."""

from fusion.search.evaluator import Evaluator
from fusion.search.guardrails import Guardrail
from fusion.search.objective import Objective, function, gauc, mtf_gauc, ndcg
from fusion.search.page import write
from fusion.search.panel import Panel
from fusion.search.report import SearchResult
from fusion.search.run import search, split_days
from fusion.search.space import Param, Space
from fusion.search.study import SEARCHERS

__all__ = [
    "SEARCHERS",
    "Evaluator",
    "Guardrail",
    "Objective",
    "Panel",
    "Param",
    "SearchResult",
    "Space",
    "function",
    "gauc",
    "mtf_gauc",
    "ndcg",
    "search",
    "split_days",
    "write",
]
