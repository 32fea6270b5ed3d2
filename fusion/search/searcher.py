"""The ask/tell protocol of a searcher: points of the unit cube out, their values back in. Same seed and answers, same points."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from core.arrays import Floats, Ints


class Answers(NamedTuple):
    """values `[n]` and terms `[n, M]` (higher is better, NaN when not computable), violations `[n]`."""

    values: Floats
    terms: Floats
    violations: Floats

    def best_first(self) -> Ints:
        """Rows by least violation, then highest value; NaN last."""
        values = np.where(np.isnan(self.values), -np.inf, self.values)
        return np.lexsort((-values, np.where(np.isinf(values), np.inf, self.violations)))


class Searcher(Protocol):
    """Made as `Searcher(n_dims, n_trials=, seed=, n_terms=)`."""

    def ask(self, n: int) -> Floats:
        """At most `n` points `[<= n, n_dims]` in the unit cube; none when it has finished."""

    def tell(self, points: Floats, answers: Answers) -> None:
        """The answers for the points of the last `ask`."""
