"""Many parameter vectors over a whole log: evaluate a block of users, count the pairs each user's positives win, move on.

Finals are compared to 40 bits of mantissa (1e-12 relative): nearer ones are ties. An AUC needs no order: a user of up to 512
rows has every positive compared with all rows, one addition counting the negatives of all metrics at once; longer users and
NDCG sort, with the row in the 12 bits below the key.
"""

from __future__ import annotations

import math

import numpy as np

from core.arrays import Floats, Floats32, Ints
from fusion.formula.kernel import evaluate_block
from fusion.formula.order import argsort, sort
from fusion.jit import compiled, parallel, prange

TIE_BITS = 12
LOW = (1 << TIE_BITS) - 1
COUNT_ROWS = 512  # users up to this long are counted, longer ones are sorted
FIELD_BITS = 12  # of a count: at most twice 512
MAX_FIELDS = 5  # counts that share one integer
AUC, NDCG = 0, 1
_FIELD = (1 << FIELD_BITS) - 1
_WIDTH = 4  # rows compared at once; what a user lacks to a multiple is filled with rows that count nothing
_MAGNITUDE = (1 << 63) - 1
_EXPONENT = 0x7FF << 52


@parallel
def evaluate_vectors(
    ops: Ints,
    n_registers: int,
    columns: Floats,
    scalars: Floats,
    floor: float,
    blocks: Ints,
    users: Ints,
    requests: Ints,
    block_requests: Ints,
    kinds: Ints,
    cut: Ints,
    gains: Floats32,
    negatives: Ints,
    positives: Ints,
    positive_starts: Ints,
    positive_gains: Floats,
    pairs: Floats,
    eligible: Floats,
    ideal: Floats,
    request_ndcg: bool,
    out: Floats,
    n_nonfinite: Ints,
) -> None:
    """Per-user values of every metric for every parameter vector.

    Args:
        scalars: `[V, n_scalars]`. floor: what a non-finite final becomes; NaN keeps it, and counts.
        blocks: First user of each block plus the end `[B + 1]`; block_requests: the same in requests.
        users, requests: First row of each plus the end; requests nest in users.
        kinds, cut: `[M]` AUC or NDCG, and NDCG's K. gains: `[n, M]`, negative where not observed.
        negatives: `[n]` a 1 in the field of each AUC metric whose negative the row is; empty when there are more than
            MAX_FIELDS metrics: then every user is sorted. positives: `[P]` rows that are a positive of some AUC metric,
            ascending; positive_starts: `[U + 1]` each user's first. positive_gains: `[P, M]`, 0 where not a positive.
            pairs: `[M, U]` sum of gains times negatives.
        eligible: `[M, U]` the user's weight, 0 when it cannot be computed. ideal: `[M, G]` DCG of the best order, 0 likewise.
        out: `[V, M, U]` zeros, to become the AUC, or the sum of the user's NDCG. n_nonfinite: `[V, B]`.
    """
    any_auc, any_ndcg = bool((kinds == AUC).any()), bool((kinds == NDCG).any())
    for b in prange(len(blocks) - 1):
        start, stop = users[blocks[b]], users[blocks[b + 1]]
        n = stop - start
        own_requests = requests[block_requests[b] : block_requests[b + 1] + 1]
        registers, final = np.empty((n_registers + 3, n)), np.empty(n)
        keys, own, spare = np.empty(n + _WIDTH, np.int64), np.empty(n + _WIDTH, np.int64), np.empty(n, np.int64)
        wins = np.empty(len(kinds))
        for v in range(len(scalars)):
            evaluate_block(ops, columns, scalars[v], start, n, own_requests, registers, final)
            n_nonfinite[v, b] = _replace(final, floor)
            for u in range(blocks[b], blocks[b + 1]):
                low, high = users[u] - start, users[u + 1] - start
                if not _any(eligible, u):
                    continue
                counted = len(negatives) > 0 and high - low <= COUNT_ROWS
                if counted and any_auc:
                    _count(final[low:high], negatives, positives, positive_gains, positive_starts[u], positive_starts[u + 1],
                           users[u], keys, own, wins)  # fmt: skip
                    for m in range(len(kinds)):
                        if pairs[m, u] > 0:
                            out[v, m, u] = wins[m] / (2.0 * pairs[m, u])
                if (any_auc and not counted) or (any_ndcg and not request_ndcg):
                    _order(final[low:high], keys[low:high], spare)
                    for m in range(len(kinds)):
                        if eligible[m, u] <= 0:
                            continue
                        if kinds[m] == AUC and not counted:
                            out[v, m, u] = _auc(final[low:high], keys[low:high], gains, start + low, m)
                        elif kinds[m] == NDCG and not request_ndcg:
                            dcg = _dcg(final[low:high], keys[low:high], gains, start + low, m, cut[m])
                            out[v, m, u] = dcg / ideal[m, u]
            if request_ndcg:
                _request_ndcg(final, own_requests, block_requests[b], blocks[b], blocks[b + 1], users, start, keys, spare,
                              kinds, cut, gains, ideal, out[v])  # fmt: skip


@compiled
def _any(eligible: Floats, u: int) -> bool:
    weight = 0.0
    for m in range(len(eligible)):
        weight += eligible[m, u]
    return weight > 0


@compiled
def _replace(final: Floats, floor: float) -> np.int64:
    n_bad = np.int64(0)
    bits = final.view(np.int64)
    for i in range(len(final)):
        n_bad += np.int64((bits[i] & _EXPONENT) == _EXPONENT)  # all ones: infinite or NaN
    if n_bad > 0:
        put = floor if floor == floor else 0.0
        for i in range(len(final)):
            if not math.isfinite(final[i]):
                final[i] = put
    return n_bad


@compiled
def _key(bits: int) -> int:
    """An integer that sorts as the float does, its low bits cleared; -0 and 0 are one."""
    if bits == -_MAGNITUDE - 1:
        bits = 0
    return (bits ^ ((bits >> 63) & _MAGNITUDE)) & ~LOW


@compiled
def _order(final: Floats, order: Ints, spare: Ints) -> None:
    """Rows of `final` from the smallest, into `order`."""
    n = len(final)
    bits = final.view(np.int64)
    if n > LOW + 1:
        keys = np.empty(n, np.int64)
        for i in range(n):
            keys[i] = _key(bits[i])
        argsort(keys, order, spare)
        return
    for i in range(n):
        order[i] = _key(bits[i]) | i
    sort(order, spare)
    for i in range(n):
        order[i] &= LOW


@compiled
def _count(
    final: Floats,
    negatives: Ints,
    positives: Ints,
    positive_gains: Floats,
    first: int,
    last: int,
    row: int,
    keys: Ints,
    own: Ints,
    wins: Floats,
) -> None:
    """sum over positives i and negatives j of w_i ([i above j] + [i at least j]) of every metric, into `wins`."""
    n = len(final)
    bits = final.view(np.int64)
    for i in range(n):
        keys[i] = _key(bits[i])
        own[i] = negatives[row + i]
    filled = (n + _WIDTH - 1) & ~(_WIDTH - 1)
    for i in range(n, filled):
        keys[i], own[i] = 0, 0
    wins[:] = 0.0
    for p in range(first, last):
        key = keys[positives[p] - row]
        count = np.int64(0)
        for j in range(filled):
            count += (own[j] & -np.int64(keys[j] < key)) + (own[j] & -np.int64(keys[j] <= key))
        for m in range(len(wins)):
            wins[m] += positive_gains[p, m] * ((count >> (FIELD_BITS * m)) & _FIELD)


@compiled
def _auc(final: Floats, order: Ints, gains: Floats32, row: int, m: int) -> float:
    """sum over positive i and negative j of w_i ([i above j] + [tied] / 2), over sum w_i times the negatives."""
    bits = final.view(np.int64)
    negatives, before, weight, tied_weight, wins = 0, 0, 0.0, 0.0, 0.0
    last = 0
    for i in range(len(order)):
        gain = gains[row + order[i], m]
        key = _key(bits[order[i]])
        if i == 0 or key != last:
            before, tied_weight, last = negatives, 0.0, key
        if gain > 0:
            wins += gain * (before + negatives)
            weight += gain
            tied_weight += gain
        elif gain == 0:
            wins += tied_weight
            negatives += 1
    return 0.5 * wins / (weight * negatives) if weight > 0 and negatives > 0 else 0.0


@compiled
def _dcg(final: Floats, order: Ints, gains: Floats32, row: int, m: int, cut: int) -> float:
    """sum over the best `cut` of gain / log2(place + 1); tied items share the discounts of their places."""
    bits = final.view(np.int64)
    total, place, i = 0.0, 0, len(order) - 1
    while i >= 0 and place < cut:
        key = _key(bits[order[i]])
        gain, discount, tied = 0.0, 0.0, 0
        while i >= 0 and _key(bits[order[i]]) == key:
            own = gains[row + order[i], m]
            if own >= 0:  # what was not observed takes no place
                gain += own
                tied += 1
                if place + tied <= cut:
                    discount += 1.0 / math.log2(place + tied + 1.0)
            i -= 1
        if tied > 0:
            total += gain * discount / tied
        place += tied
    return total


@compiled
def _request_ndcg(
    final: Floats,
    own: Ints,
    first_request: int,
    first_user: int,
    last_user: int,
    users: Ints,
    start: int,
    keys: Ints,
    spare: Ints,
    kinds: Ints,
    cut: Ints,
    gains: Floats32,
    ideal: Floats,
    out: Floats,
) -> None:
    u = first_user
    for r in range(len(own) - 1):
        while u < last_user - 1 and own[r] >= users[u + 1]:
            u += 1
        low, high = own[r] - start, own[r + 1] - start
        sorted_yet = False
        for m in range(len(kinds)):
            best = ideal[m, first_request + r] if kinds[m] == NDCG else 0.0
            if best > 0:
                if not sorted_yet:
                    _order(final[low:high], keys[low:high], spare)
                    sorted_yet = True
                out[m, u] += _dcg(final[low:high], keys[low:high], gains, own[r], m, cut[m]) / best
