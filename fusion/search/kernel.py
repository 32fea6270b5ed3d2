"""Many parameter vectors over a whole log: evaluate a block of users, sort within users or requests, count, move on.

Finals are compared to 40 bits of mantissa (1e-12 relative): nearer ones are ties. The 12 bits below carry the row (one vector
at a time) or the labels (eight vectors side by side, where the sort is a network of minima and maxima over eight lanes).
"""

from __future__ import annotations

import math

import numpy as np

from core.arrays import Floats, Floats32, Ints
from fusion.formula.kernel import evaluate_block
from fusion.formula.order import argsort, sort
from fusion.jit import compiled, parallel, prange

LANES = 8
TIE_BITS = 12
LOW = (1 << TIE_BITS) - 1
MAX_LANE_LABELS = TIE_BITS // 2  # two bits each: positive, negative; neither is not observed
AUC, NDCG = 0, 1
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
    codes: Ints,
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
        codes: `[n]` two bits a metric, or empty when the metrics need the gains themselves.
        eligible: `[M, U]` the user's weight, 0 when it cannot be computed. ideal: `[M, G]` DCG of the best order, 0 likewise.
        out: `[V, M, U]`: the AUC, or the sum of the user's NDCG. n_nonfinite: `[V, B]`.
    """
    n_vectors, n_metrics = len(scalars), len(kinds)
    lanes = len(codes) > 0 and n_vectors > 1
    for b in prange(len(blocks) - 1):
        start, stop = users[blocks[b]], users[blocks[b + 1]]
        n = stop - start
        own_requests = requests[block_requests[b] : block_requests[b + 1] + 1]
        registers = np.empty((n_registers + 3, n))
        finals = np.empty((LANES if lanes else 1, n))
        keys = np.empty(n * LANES if lanes else n, np.int64)
        spare = np.empty(n, np.int64)
        counts = np.empty((3, n_metrics, LANES), np.int64)
        first = 0
        while first < n_vectors:
            together = min(LANES, n_vectors - first) if lanes else 1
            for lane in range(together):
                evaluate_block(ops, columns, scalars[first + lane], start, n, own_requests, registers, finals[lane])
                n_nonfinite[first + lane, b] = _replace(finals[lane], floor)
            for lane in range(together, len(finals)):
                finals[lane] = 0.0
            for u in range(blocks[b], blocks[b + 1]):
                low, high = users[u] - start, users[u + 1] - start
                if lanes:
                    if _any(eligible, u):
                        _lane_keys(finals, low, high, codes, start, keys)
                        _network(keys, high - low)
                        _lane_aucs(keys, high - low, n_metrics, counts)
                        for m in range(n_metrics):
                            for lane in range(together):
                                pairs = counts[1, m, lane] * counts[2, m, lane]
                                out[first + lane, m, u] = counts[0, m, lane] / (2.0 * pairs) if pairs > 0 else 0.0
                else:
                    for m in range(n_metrics):
                        out[first, m, u] = 0.0
                    if not _any(eligible, u):
                        continue
                    final = finals[0]
                    if len(codes) > 0 and high - low <= LOW + 1:
                        _coded_aucs(
                            final[low:high], codes[start + low : start + high], keys[: high - low], spare, eligible, u, out[first]
                        )
                        continue
                    _order(final[low:high], keys[low:high], spare)
                    for m in range(n_metrics):
                        if eligible[m, u] <= 0:
                            continue
                        if kinds[m] == AUC:
                            out[first, m, u] = _auc(final[low:high], keys[low:high], gains, start + low, m)
                        elif not request_ndcg:
                            dcg = _dcg(final[low:high], keys[low:high], gains, start + low, m, cut[m])
                            out[first, m, u] = dcg / ideal[m, u]
            if request_ndcg:
                _request_ndcg(finals[0], own_requests, block_requests[b], blocks[b], blocks[b + 1], users, start, keys, spare,
                              kinds, cut, gains, ideal, out[first])  # fmt: skip
            first += together


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
def _coded_aucs(final: Floats, codes: Ints, keys: Ints, spare: Ints, eligible: Floats, u: int, out: Floats) -> None:
    bits = final.view(np.int64)
    for i in range(len(keys)):
        keys[i] = _key(bits[i]) | i
    sort(keys, spare)
    for i in range(len(keys)):
        keys[i] = (keys[i] & ~LOW) | codes[keys[i] & LOW]
    for m in range(len(eligible)):
        if eligible[m, u] > 0:
            wins, positives, negatives = _pairs(keys, len(keys), 1, 0, m)
            out[m, u] = wins / (2.0 * positives * negatives)


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


@compiled
def _lane_keys(finals: Floats, low: int, high: int, codes: Ints, start: int, keys: Ints) -> None:
    bits = finals.view(np.int64)
    for lane in range(LANES):
        for i in range(high - low):
            keys[i * LANES + lane] = _key(bits[lane, low + i]) | codes[start + low + i]


@compiled
def _network(keys: Ints, n: int) -> None:
    """Batcher's merge exchange over `[n, LANES]`, flat: every lane is sorted, without one branch on a value."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            j = k % p
            while j + k < n:
                if j // (2 * p) == (j + k) // (2 * p):
                    _exchange(keys, j * LANES, (j + k) * LANES, min(k, n - j - k) * LANES)
                j += 2 * k
            k //= 2
        p *= 2


@compiled
def _exchange(keys: Ints, a: int, b: int, n: int) -> None:
    for x in range(n):
        left, right = keys[a + x], keys[b + x]
        keys[a + x] = min(left, right)
        keys[b + x] = max(left, right)


@compiled
def _lane_aucs(keys: Ints, n: int, n_metrics: int, counts: Ints) -> None:
    """Twice the pairs won, positives and negatives, `[3, M, LANES]`."""
    counts[:] = 0
    ties = np.int64(0)
    for i in range((n - 1) * LANES):
        ties |= np.int64((keys[i] ^ keys[i + LANES]) <= LOW)
    if ties:
        for m in range(n_metrics):
            for lane in range(LANES):
                counts[0, m, lane], counts[1, m, lane], counts[2, m, lane] = _pairs(keys, n, LANES, lane, m)
        return
    for m in range(n_metrics):
        wins, positives, negatives = counts[0, m], counts[1, m], counts[2, m]
        for i in range(n):
            for lane in range(LANES):
                code = keys[i * LANES + lane] >> (2 * m)
                wins[lane] += (code & 1) * negatives[lane]
                positives[lane] += code & 1
                negatives[lane] += (code >> 1) & 1
        for lane in range(LANES):
            wins[lane] *= 2


@compiled
def _pairs(keys: Ints, n: int, stride: int, lane: int, m: int) -> tuple[int, int, int]:
    """Twice the pairs won by positives (a tie is half a win), the positives and the negatives of one lane."""
    wins, positives, negatives, before, tied = 0, 0, 0, 0, 0
    last = np.int64(0)
    for i in range(n):
        key = keys[i * stride + lane]
        fresh = (key ^ last) > LOW or (key ^ last) < 0
        before = negatives if fresh else before
        tied = 0 if fresh else tied
        last = key
        positive, negative = (key >> (2 * m)) & 1, (key >> (2 * m + 1)) & 1
        wins += positive * (before + negatives) + negative * tied
        positives += positive
        tied += positive
        negatives += negative
    return wins, positives, negatives
