"""How fast a formula is judged on a log: 1 M impressions, 50 k users, 5 tasks, GAUC of 3 labels, two threads.

One evaluation computes the log-sum formula (10 free parameters) on every row and the exact AUC of every user for three labels.
Beside it: one sort of the same rows within users by the same kernel, numpy's lexsort, scikit-learn's roc_auc_score user by
user (a sample of users, scaled up), and 1,000 parameter vectors in one call. Last, how long hostile texts take to be refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from bench.harness import Bench, Cell, interleave, ratio, timed
from core.arrays import Floats, Ints
from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from fusion.formula import Formula
from fusion.formula.families import log_sum
from fusion.jit import parallel, prange, threads
from fusion.search import Evaluator, Objective, Panel, gauc
from fusion.search.kernel import _order

TASKS = TaskSet([TaskSpec(name) for name in ("click", "long_view", "like", "follow", "comment")])
LABELS = {"click": 0.44, "long_view": 0.31, "like": 0.017}
N_THREADS = 2
HOSTILE = {
    "attribute access": "click.__class__.__bases__",
    "a call of Python": "__import__('os').system('true')",
    "a tower of powers": "click + 9 ** 9 ** 9 ** 9",
    "a power of 1e300": "click ** 1e300",
    "10,000 parentheses": "(" * 10_000 + "click" + ")" * 10_000,
    "1,990 characters of parentheses": "(" * 992 + "click" + ")" * 992,
    "a chain of 400 sums": "+".join(["like"] * 399) + "+ (",
    "a Cyrillic letter": "\u0441lick + like",
    "a fullwidth parenthesis": "log\uff08click)",
}


def main() -> None:
    """Build the log, measure, print."""
    bench = Bench("fusion_search", ["evals_per_s", "ratio_to_one_sort", "ratio_to_sklearn", "batched_speedup"])
    n_rows, n_users, n_vectors, rounds = (100_000, 5_000, 200, 5) if bench.quick else (1_000_000, 50_000, 1_000, 9)
    panel = Panel(make_log(n_rows, n_users), Objective([gauc(label) for label in LABELS]))
    formula = log_sum(TASKS).formula
    judge = Evaluator(formula, panel, n_threads=N_THREADS)
    vectors = np.random.default_rng(1).uniform(0.05, 1.0, (n_vectors, formula.n_params))
    params = dict(zip(formula.params, vectors[0].tolist(), strict=True))
    final = judge.finals(params)
    user = np.repeat(np.arange(panel.n_users), np.diff(panel.users))
    samples = interleave(
        {
            "one evaluation": timed(lambda: judge(vectors[:1])),
            "one segmented sort": timed(lambda: segmented_sort(final, panel)),
            "numpy lexsort": timed(lambda: np.lexsort((final, user))),
            "a vector of a batch": _per_vector(lambda: judge(vectors[: n_vectors // 10]), n_vectors // 10),
        },
        rounds=rounds,
        warmups=2,
    )
    start = time.perf_counter()
    judge(vectors)
    batched = (time.perf_counter() - start) / n_vectors
    sklearn_s = sklearn_seconds(panel, final, 200 if bench.quick else 400)
    one = samples["one evaluation"]
    rows: list[list[Cell]] = [[name, s.median * 1e3, s.low * 1e3, s.high * 1e3] for name, s in samples.items()]
    rows.append([f"a vector of {n_vectors:,} at once", batched * 1e3, None, None])
    rows.append(["scikit-learn, scaled up", sklearn_s * 1e3, None, None])
    title = f"{n_rows:,} impressions, {panel.n_users:,} users, 5 tasks, GAUC of 3 labels, {N_THREADS} threads"
    bench.table(["what", "ms", "least", "most"], rows, title=title)
    bench.figure("evals_per_s", 1.0 / one.median)
    bench.figure("ratio_to_one_sort", ratio(one, samples["one segmented sort"]))
    bench.figure("ratio_to_sklearn", sklearn_s / one.median)
    bench.figure("batched_speedup", one.median / batched)
    bench.note("evals_per_s", f"one vector a call; {1 / batched:.0f} a second when {n_vectors:,} go in one call")
    refusals: list[list[Cell]] = [[what, _refusal_ms(text)] for what, text in HOSTILE.items()]
    bench.table(["hostile formula", "ms to refuse it"], refusals, title="formulas from untrusted hands; the goal is 10 ms")
    bench.finish()


def _refusal_ms(text: str) -> float:
    """The median of 51 refusals."""
    taken = []
    for _ in range(51):
        start = time.perf_counter()
        try:
            Formula.parse(text, tasks=TASKS.names)
            raise AssertionError(f"{text[:40]!r} was taken for a formula")
        except ConfigError:  # its position is asserted in tests/fusion/test_grammar.py
            pass
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e3


def make_log(n_rows: int, n_users: int, seed: int = 0) -> LoggedDataset:
    """Users of skewed activity; labels that follow the scores."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, 1.0, n_users)
    columns = {"user_id": rng.choice(n_users, n_rows, p=activity / activity.sum())}
    for task in TASKS.names:
        p = LABELS.get(task, 0.003)
        logit = np.log(p / (1 - p)) + rng.normal(size=n_rows)
        columns[f"score_{task}"] = (1 / (1 + np.exp(-logit))).astype(np.float32)
        if task in LABELS:
            columns[task] = (rng.random(n_rows) < columns[f"score_{task}"]).astype(np.float32)
    return LoggedDataset(columns)


def segmented_sort(final: Floats, panel: Panel) -> Ints:
    """The rows of every user from the smallest final score."""
    order = np.empty(len(final), dtype=np.int64)
    with threads(N_THREADS):
        _sort(final, panel.users, panel.blocks, order)
    return order


@parallel
def _sort(final: Floats, users: Ints, blocks: Ints, order: Ints) -> None:
    for b in prange(len(blocks) - 1):
        spare = np.empty(users[blocks[b + 1]] - users[blocks[b]], np.int64)
        for u in range(blocks[b], blocks[b + 1]):
            _order(final[users[u] : users[u + 1]], order[users[u] : users[u + 1]], spare)


def sklearn_seconds(panel: Panel, final: Floats, n_sample: int) -> float:
    """roc_auc_score for a sample of the users that have both classes, scaled to all of them."""
    total = 0.0
    for m, label in enumerate(LABELS):
        eligible = np.flatnonzero(panel.eligible[m] > 0)
        chosen = np.random.default_rng(m).choice(eligible, min(n_sample, len(eligible)), replace=False)
        positive = panel.log[label]
        start = time.perf_counter()
        for u in chosen:
            rows = slice(panel.users[u], panel.users[u + 1])
            roc_auc_score(positive[rows], final[rows])
        total += (time.perf_counter() - start) * len(eligible) / len(chosen)
    return total


def _per_vector(work: Callable[[], object], n: int) -> Callable[[], float]:
    once = timed(work)
    return lambda: once() / n


if __name__ == "__main__":
    main()
