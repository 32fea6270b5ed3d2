"""What ranx says about a table of scores, as JSON: a process of its own, which its caller starts with
numba's compiler switched off (45 s saved)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence

from ranx import Run
from ranx.fusion import bordafuse, comb_max, comb_min, comb_mnz, comb_sum, rrf
from ranx.normalization import min_max_norm


def runs(columns: Sequence[Sequence[float]], *, normal: bool = False, without_zeros: bool = False) -> list[Run]:
    """One run a task over the same request, an item a document."""
    made = []
    for column in columns:
        run = Run({"request": {f"i{i}": score for i, score in enumerate(column)}})
        scores = (min_max_norm(run) if normal else run).to_dict()["request"]
        made.append(Run({"request": {name: float(score) for name, score in scores.items() if score > 0 or not without_zeros}}))
    return made


def answers(columns: Sequence[Sequence[float]]) -> Mapping[str, list[float]]:
    """Fused scores by method, in the order of the items; 0 for an item that no run holds."""
    methods: Mapping[str, Callable[[], Run]] = {
        "rrf": lambda: rrf(runs(columns), k=60),
        "borda": lambda: bordafuse(runs(columns)),
        "comb_sum": lambda: comb_sum(runs(columns, normal=True)),
        "comb_mnz": lambda: comb_mnz(runs(columns, normal=True, without_zeros=True)),
        "comb_max": lambda: comb_max(runs(columns, normal=True)),
        "comb_min": lambda: comb_min(runs(columns, normal=True)),
    }
    found = {name: method().to_dict()["request"] for name, method in methods.items()}
    return {name: [float(scores.get(f"i{i}", 0.0)) for i in range(len(columns[0]))] for name, scores in found.items()}


if __name__ == "__main__":
    print(json.dumps(answers(json.load(sys.stdin))))
