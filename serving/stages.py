"""The stages of one request after its bucket is known: gather features, score, fuse, order; each falls back by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from core.arrays import AnyArray, Floats, Ints
from core.errors import DataError, RequestError
from core.events import Decision, Request
from core.scores import ScoreTable
from serving.release import FeatureSource, Ranker, Release

FIRST_TASK = "first_task"
UPSTREAM = "upstream"


class Gathered(NamedTuple):
    """Encoded features of one request; `items` is None when the source failed."""

    user: Any
    request: Any
    items: Any
    n_unknown: int
    unknown_user: bool


@dataclass(frozen=True, slots=True)
class Final:
    """Final scores `[n]` with the name of what made them, and a policy's decision. NaN marks a candidate that was not scored."""

    final: Floats
    strategy: str
    weights: Mapping[str, float]
    propensity: float
    decision: Decision | None = None


def gather(source: FeatureSource, request: Request, reasons: list[str]) -> Gathered:
    """Look up the features; what the caller sent inline goes before what the tables hold.

    Raises:
        RequestError: The inline features cannot be read: the caller's mistake, not ours.
    """
    try:
        user, known = source.user(request.user_id)
        side = source.request(request.scenario, request.context)
        if request.features is not None:
            return Gathered(user, side, source.inline(request.candidates, request.features), 0, not known)
        items, n_unknown = source.items(request.candidates)
        return Gathered(user, side, items, n_unknown, not known)
    except Exception as error:  # a broken source costs features, never the page; named in `degraded`
        if request.features is not None and isinstance(error, DataError):
            raise RequestError(str(error), field="features") from error
        reasons.append(f"features:{type(error).__name__}")
        return Gathered(None, None, None, 0, False)


def score(ranker: Ranker, gathered: Gathered, n: int, reasons: list[str]) -> ScoreTable:
    """Per-task scores of all candidates; without columns when the ranker or its features failed."""
    if gathered.items is None:
        return no_scores(n)
    try:
        values = ranker.score(gathered.user, gathered.request, gathered.items)
        return ScoreTable(ranker.names, values.astype(np.float64))
    except Exception as error:  # a broken ranker falls back; named in `degraded`
        reasons.append(f"ranker:{type(error).__name__}")
        return no_scores(n)


def no_scores(n: int) -> ScoreTable:
    """A table without tasks, for `n` candidates that nobody scored."""
    return ScoreTable((), np.empty((n, 0)))


def fuse(release: Release, chosen: str, scores: ScoreTable, request: Request, reasons: list[str]) -> Final:
    """The chosen strategy's final scores, or the first that works below: simpler ones, the first task, upstream order."""
    n = len(scores)
    if scores.tasks:
        finite: AnyArray = np.asarray(np.isfinite(scores.values).all(1))  # [n]
        whole = bool(finite.all())
        if not whole:
            reasons.append("scores:partial" if finite.any() else "scores:not_finite")
        if whole or finite.any():
            part = scores if whole else scores.take(finite)
            context = fusion_context(request, release)
            for name in release.ladder(chosen):
                answer = _try(release, name, part, context, reasons)
                if answer is not None:
                    return answer if whole else _spread(answer, finite)
            first = part.values[:, 0]
            return _spread(Final(first, FIRST_TASK, {}, math.nan), finite)
    return Final(-np.arange(n, dtype=np.float64), UPSTREAM, {}, math.nan)


def order(final: Floats) -> Ints:
    """Row numbers, best first; ties and what has no score (NaN, always last) keep the upstream order.

    >>> order(np.array([1.0, np.nan, 3.0, 1.0])).tolist()
    [2, 0, 3, 1]
    """
    return np.argsort(-final, kind="stable")  # numpy sorts NaN to the end


def fusion_context(request: Request, release: Release) -> Mapping[str, Any]:
    """What a strategy may read beside the scores: the caller's context, scenario, ids, and the user's row where a policy reads
    it."""
    context = dict(request.context)
    context["scenario"] = request.scenario
    context["user_id"] = request.user_id
    context["request_id"] = request.request_id
    context["user"] = release.profile(request.user_id) if release.profile is not None else {}
    return context


def _try(release: Release, name: str, scores: ScoreTable, context: Mapping[str, Any], reasons: list[str]) -> Final | None:
    strategy = release.strategies.get(name)
    if strategy is None:
        reasons.append(f"{name}:unknown_strategy")
        return None
    try:
        fused = strategy.fuse(scores, context)
        final = np.asarray(fused.final, np.float64)
        if final.shape != (len(scores),):
            reasons.append(f"{name}:wrong_shape")
            return None
        if not np.isfinite(final).all():
            reasons.append(f"{name}:not_finite")
            return None
        if fused.note is not None:
            reasons.append(f"{name}:{fused.note}")
        return Final(final, name, fused.weights, fused.propensity, fused.decision)
    except Exception as error:  # a broken strategy falls back; named in `degraded`
        reasons.append(f"{name}:{type(error).__name__}")
        return None


def _spread(answer: Final, scored: Any) -> Final:
    final = np.full(len(scored), np.nan)
    final[scored] = answer.final
    return Final(final, answer.strategy, answer.weights, answer.propensity, answer.decision)
