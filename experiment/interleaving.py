"""Interleaving: several strategies share one slate, and the user's answers say whose items were better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from core.arrays import Floats, Ints
from core.errors import DataError
from experiment.effects import Effect


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A slate `[k]` and the strategy each item is credited to `[k]`; -1 where all of them agree and nobody earns credit."""

    items: Ints
    team: Ints


def team_draft(rankings: Sequence[Ints], k: int, rng: np.random.Generator, *, share_prefix: bool = True) -> Interleaved:
    """Team-draft interleaving of two rankings, multileaving of more.

    In every round each strategy, in a fresh random order, adds its best item that is not in the slate yet.

    Args:
        rankings: Item ids, best first, one array a strategy; they may hold different items.
        k: Length of the slate; shorter when all rankings are used up.
        share_prefix: Items at the top on which all rankings agree are shown without credit: a click there says nothing.

    References:
        Radlinski, Kurup, Joachims 2008 (team draft); Schuth et al. 2014 (multileaving).

    >>> mixed = team_draft([np.array([1, 2, 3]), np.array([1, 3, 2])], 3, np.random.default_rng(0))
    >>> mixed.items[0], mixed.team[0]
    (np.int64(1), np.int64(-1))
    """
    if not rankings or k < 1:
        raise DataError(f"{len(rankings)} rankings for a slate of {k}; give at least one of each")
    items: list[int] = []
    team: list[int] = []
    if share_prefix:
        for position in range(min(k, *(len(ranking) for ranking in rankings))):
            agreed = {int(ranking[position]) for ranking in rankings}
            if len(agreed) > 1:
                break
            items.append(agreed.pop())
            team.append(-1)
    used = set(items)
    cursor = [0] * len(rankings)
    while len(items) < k:
        before = len(items)
        for strategy in rng.permutation(len(rankings)).tolist():
            ranking = rankings[strategy]
            while cursor[strategy] < len(ranking) and int(ranking[cursor[strategy]]) in used:
                cursor[strategy] += 1
            if cursor[strategy] < len(ranking) and len(items) < k:
                item = int(ranking[cursor[strategy]])
                items.append(item)
                team.append(strategy)
                used.add(item)
        if len(items) == before:
            break
    return Interleaved(np.array(items, np.int64), np.array(team, np.int64))


def credits(team: Ints, answered: Floats, n_strategies: int) -> Floats:
    """What a request's answers earn each strategy, `[n_strategies]`; items of nobody earn nothing.

    >>> credits(np.array([-1, 0, 1, 0]), np.array([1.0, 1.0, 0.0, 2.0]), 2).tolist()
    [3.0, 0.0]
    """
    owned = team >= 0
    earned = np.bincount(team[owned], weights=np.asarray(answered, float)[owned], minlength=n_strategies)
    return earned.astype(np.float64)


def credit_test(credit: Floats, unit: Ints, control: int, treatment: int, *, alpha: float = 0.05) -> Effect:
    """Does one strategy earn more credit than another? Requests of one unit go together.

    The number tested is the mean over units of (treatment's credit - control's credit) summed over the unit's requests, by a
    one-sample t-test: both strategies act on the same users, so that what differs between users cancels.

    Args:
        credit: `[n_requests, n_strategies]` from `credits`.
        unit: `[n_requests]` whose request it was (any integers).

    Returns:
        An effect whose `control` and `treatment` are credits per unit.
    """
    _, index = np.unique(unit, return_inverse=True)
    n = int(index.max()) + 1 if len(index) else 0
    if n < 2:
        return Effect.empty("too_few_units")
    sums = np.stack([np.bincount(index, weights=credit[:, side], minlength=n) for side in (control, treatment)])
    difference = sums[1] - sums[0]
    se = float(difference.std(ddof=1) / np.sqrt(n))
    a, b = (float(value) for value in sums.mean(axis=1))
    if se == 0:
        return Effect.empty("no_variance", control=a, treatment=b)
    t = float(stats.t.isf(alpha / 2, n - 1))
    diff = float(difference.mean())
    p_value = float(2 * stats.t.sf(abs(diff) / se, n - 1))
    return Effect(a, b, diff, diff - t * se, diff + t * se, se, p_value)


def sensitivity(interleaved: Effect, n_interleaved: int, ab: Effect, n_ab: int) -> float:
    """How many times fewer units the interleaving needs than the A/B for the same certainty: `(z_i^2 / n_i) / (z_ab^2 / n_ab)`.

    NaN when either has no estimate or the A/B sees no difference at all.
    """
    per_unit = (ab.diff / ab.se) ** 2 / n_ab if ab.se > 0 else float("nan")
    if not np.isfinite(per_unit) or per_unit == 0 or not interleaved.se > 0:
        return float("nan")
    return float((interleaved.diff / interleaved.se) ** 2 / n_interleaved / per_unit)
