"""The value of parameter vectors on a log: thousands a call, through one kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from core.arrays import Floats, Ints
from core.errors import ConfigError, DataError
from core.events import SCORE
from fusion.formula import Formula
from fusion.formula.linear import linearise
from fusion.jit import threads
from fusion.search.kernel import evaluate_vectors
from fusion.search.panel import Panel

_CHUNK_BYTES = 64_000_000  # per-user values held at once


class Evaluation(NamedTuple):
    """values `[V]`, terms `[V, M]`, n_nonfinite `[V]`; a vector with a non-finite final is NaN, unless a floor is declared."""

    values: Floats
    terms: Floats
    n_nonfinite: Ints


class Evaluator:
    """A formula over a panel.

    Args:
        formula: Its tasks are read from `score_<task>`, its context names from the columns of that name.
        n_threads: At most so many threads; all of numba's by default.

    Raises:
        DataError: A column is missing or a score is not finite.
    """

    def __init__(self, formula: Formula, panel: Panel, *, n_threads: int | None = None) -> None:
        self.formula, self.panel, self.n_threads = formula, panel, n_threads
        log = panel.log.require([SCORE + task for task in formula.tasks])
        columns: dict[str, Floats] = {}
        for name, column in [(t, SCORE + t) for t in formula.tasks] + [(c, c) for c in formula.context]:
            columns[name] = np.asarray(log[column], dtype=np.float64)
            bad = np.flatnonzero(~np.isfinite(columns[name]))
            if len(bad):
                raise DataError(f"column {column!r} is not finite in {len(bad)} of {len(log)} rows; drop or fill them first")
        self._columns = columns
        context = {name: columns[name] for name in formula.context}
        self._linear = linearise(formula, columns, context, len(log), panel.requests)

    def __call__(self, vectors: Floats) -> Evaluation:
        """Judge parameter vectors `[V, n_params]`, in the order of `formula.params`."""
        vectors = self._check(vectors)
        terms = np.empty((len(vectors), len(self.panel.objective.metrics)))
        n_nonfinite = np.zeros(len(vectors), dtype=np.int64)
        if self.panel.measured:
            for start, values, bad in self._chunks(vectors):
                part = slice(start, start + len(values))
                for m, column in enumerate(self.panel.measured):
                    # one by one: the same to the bit in any batch; not by BLAS, whose threads cost more than the sum
                    sums = [np.multiply(row, self.panel.multiplier[m]).sum() for row in values[:, m]]
                    terms[part, column] = np.array(sums) / self.panel.denominator[m]
                n_nonfinite[part] = bad
        self._functions(vectors, terms, n_nonfinite)
        if self.formula.nonfinite == "error":
            terms[n_nonfinite > 0] = np.nan
        return Evaluation(self.panel.objective.value(terms), terms, n_nonfinite)

    def one(self, params: Mapping[str, float]) -> Evaluation:
        """Judge one set of parameters by name."""
        checked = self.formula.check_params(params)
        return self(np.array([[checked[name] for name in self.formula.params]]).reshape(1, -1))

    def per_user(self, vectors: Floats) -> Floats:
        """`[V, M, U]` numerators: divided by `panel.eligible`, both summed over users, they give the measured terms."""
        vectors = self._check(vectors)
        out = np.empty((len(vectors), len(self.panel.measured), self.panel.n_users))
        for start, values, bad in self._chunks(vectors):
            values *= self.panel.multiplier
            if self.formula.nonfinite == "error":
                values[bad > 0] = np.nan
            out[start : start + len(values)] = values
        return out

    def finals(self, params: Mapping[str, float]) -> Floats:
        """Final scores of the panel's rows."""
        context = {name: self._columns[name] for name in self.formula.context}
        return self.formula.final(self._columns, params, context, self.panel.requests).values

    def _chunks(self, vectors: Floats) -> Iterator[tuple[int, Floats, Ints]]:
        panel, linear = self.panel, self._linear
        width = max(8, _CHUNK_BYTES // (8 * panel.n_users * max(1, len(panel.measured))) // 8 * 8)
        floor = np.nan if self.formula.nonfinite == "error" else float(self.formula.nonfinite)
        scalars = linear.scalar_values(vectors)
        for start in range(0, len(vectors), width):
            part = np.ascontiguousarray(scalars[start : start + width])
            out = np.zeros((len(part), len(panel.measured), panel.n_users))
            bad = np.zeros((len(part), len(panel.blocks) - 1), dtype=np.int64)
            with threads(self.n_threads):
                evaluate_vectors(linear.ops, linear.n_registers, linear.columns, part, floor, panel.blocks, panel.users,
                                 panel.requests, panel.block_requests, panel.kinds, panel.cut, panel.gains,
                                 panel.negatives, panel.positives, panel.positive_starts, panel.positive_gains,
                                 panel.pairs, panel.eligible, panel.ideal, panel.request_ndcg, out, bad)  # fmt: skip
            yield start, out, bad.sum(axis=1)

    def _functions(self, vectors: Floats, terms: Floats, n_nonfinite: Ints) -> None:
        metrics = [(i, m.call) for i, m in enumerate(self.panel.objective.metrics) if m.call is not None]
        if not metrics:
            return
        for v, vector in enumerate(vectors):
            try:
                final = self.finals(dict(zip(self.formula.params, vector.tolist(), strict=True)))
            except DataError:
                n_nonfinite[v] = max(1, int(n_nonfinite[v]))
                continue
            for i, call in metrics:
                terms[v, i] = call(final, self.panel.log)

    def _check(self, vectors: Floats) -> Floats:
        vectors = np.asarray(vectors, dtype=np.float64)
        if vectors.ndim != 2 or vectors.shape[1] != self.formula.n_params:
            raise ConfigError(
                f"parameter vectors have shape {vectors.shape}; give [n, {self.formula.n_params}] for {self.formula}"
            )
        if not np.isfinite(vectors).all():
            raise ConfigError("parameter vectors must be finite")
        return np.ascontiguousarray(vectors)
