"""LambdaMART over task scores (LightGBM), constrained to rise with every `up` task and to fall with every `down` task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import lightgbm
import numpy as np

from core.arrays import AnyArray, Floats
from core.errors import ConfigError, DataError
from fusion.calibrate import Calibration
from fusion.learned.inputs import Inputs
from fusion.learned.learner import one_of, with_defaults
from fusion.learned.rows import Pairs, Rows, pairs
from fusion.learned.trees import MAX_LEAVES, Forest, LambdaMart

DEFAULTS: Final[Mapping[str, Any]] = {
    "metric": "auc",
    "trees_a_round": 10,
    "n_leaves": 8,
    "learning_rate": 0.05,
    "min_rows": 200,
    "l2": 1.0,
}
_LEVELS = 16  # for NDCG relevance becomes this many grades at most


class LambdaMartLearner:
    """Boosting on the lambdas of a ranking metric (Burges, From RankNet to LambdaRank to LambdaMART, 2010).

    Options: metric `auc` weighs a pair by what swapping it changes in the group's weighted AUC, `ndcg` is LightGBM's own
    lambdarank; trees_a_round, n_leaves (at most 32), learning_rate, min_rows (in a leaf), l2.
    """

    def __init__(self, rows: Rows, inputs: Inputs, options: Mapping[str, Any], seed: int) -> None:
        self.options = with_defaults("lambdamart", DEFAULTS, options)
        if not 2 <= self.options["n_leaves"] <= MAX_LEAVES:
            raise ConfigError(f"lambdamart: n_leaves {self.options['n_leaves']} must be from 2 to {MAX_LEAVES}")
        self._rows, self._inputs = rows, inputs
        self._forest = Forest.empty()
        self._so_far = np.zeros(len(rows.relevance))  # what the forest gives each row, round by round
        by_ndcg = one_of("lambdamart", self.options, "metric", ("auc", "ndcg")) == "ndcg"
        self._parameters: dict[str, Any] = {
            "objective": "lambdarank" if by_ndcg else _lambdas(pairs(rows, seed)),
            "monotone_constraints": [*inputs.signs, *(0 for _ in inputs.context)],
            "monotone_constraints_method": "basic",
            "num_leaves": self.options["n_leaves"],
            "learning_rate": self.options["learning_rate"],
            "min_data_in_leaf": self.options["min_rows"],
            "lambda_l2": self.options["l2"],
            "feature_pre_filter": False,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        labels: dict[str, Any] = {}
        if by_ndcg:
            grade, worth = _grades(rows.relevance)
            if len(worth) < 2:
                raise DataError("all rows have the same relevance; there is nothing to learn")
            self._parameters["label_gain"] = worth
            sizes = np.diff(rows.groups)
            labels = {"label": grade, "group": sizes[sizes > 0]}
        binning = {name: value for name, value in self._parameters.items() if name != "objective"}
        table = np.concatenate([rows.x, rows.s], axis=1)
        self._data = lightgbm.Dataset(table, params=binning, free_raw_data=False, **labels)

    def round(self, number: int) -> None:
        """Grow trees on what the forest so far leaves to be done."""
        self._data.set_init_score(self._so_far)
        booster = lightgbm.train(dict(self._parameters), self._data, num_boost_round=self.options["trees_a_round"])
        self._add(_forest(booster.dump_model()["tree_info"]))

    def strategy(self, calibration: Calibration | None = None) -> LambdaMart:
        """The forest so far."""
        return LambdaMart(self._inputs, self._forest, calibration)

    def state(self) -> dict[str, AnyArray]:
        """The forest is all that the next round depends on."""
        return dict(self._forest._asdict())

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on from a forest, added up in the same rounds."""
        whole, step = Forest(**state), int(self.options["trees_a_round"])
        self._forest, self._so_far = Forest.empty(), np.zeros(len(self._rows.relevance))
        for first in range(0, whole.n_trees, step):
            self._add(whole.part(first, min(first + step, whole.n_trees)))

    def _add(self, trees: Forest) -> None:
        self._forest = self._forest.plus(trees)
        self._so_far = self._so_far + LambdaMart(self._inputs, trees).values(self._rows.x, self._rows.s)


def _lambdas(found: Pairs) -> Callable[[Floats, lightgbm.Dataset], tuple[Floats, Floats]]:
    """Gradient and curvature `[n]` of the pairwise logistic loss, each pair with its weight. (LightGBM copies its parameters
    deeply: a plain function is passed on as it is.)"""
    better, worse, weight = found

    def lambdas(scores: Floats, data: lightgbm.Dataset) -> tuple[Floats, Floats]:
        wrong = weight / (1.0 + np.exp(np.clip(scores[better] - scores[worse], -50, 50)))
        curve = wrong * (1.0 - wrong / weight)
        n = len(scores)
        gradient = np.bincount(worse, wrong, n) - np.bincount(better, wrong, n)
        curvature = np.bincount(worse, curve, n) + np.bincount(better, curve, n)
        return np.asarray(gradient, np.float64), np.asarray(curvature, np.float64)

    return lambdas


def _grades(relevance: Floats) -> tuple[AnyArray, list[float]]:
    """Relevance as whole grades from 0 (at most 16 quantiles), and what each grade is worth."""
    values = np.unique(relevance)
    if len(values) > _LEVELS:
        values = np.unique(np.quantile(relevance, np.linspace(0, 1, _LEVELS)))
    grade = np.searchsorted(values, relevance, side="right") - 1
    return grade, [float(value - values[0]) for value in values]


def _forest(trees: list[dict[str, Any]]) -> Forest:
    """LightGBM's trees as flat arrays."""
    columns: dict[str, list[Any]] = {name: [] for name in Forest._fields}
    columns["nodes"], columns["leaves"] = [0], [0]
    for tree in trees:
        _add(tree["tree_structure"], columns, columns["nodes"][-1], columns["leaves"][-1])
        columns["nodes"].append(len(columns["feature"]))
        columns["leaves"].append(len(columns["leaf"]))
    kinds: dict[str, Any] = dict.fromkeys(columns, np.int64) | dict.fromkeys(("threshold", "leaf"), np.float64)
    arrays: dict[str, AnyArray] = {name: np.array(values, kinds[name]) for name, values in columns.items()}
    return Forest(**arrays)


def _add(node: dict[str, Any], columns: dict[str, list[Any]], first_node: int, first_leaf: int) -> int:
    """Append a subtree; its root as a child number."""
    if "split_feature" not in node:
        columns["leaf"].append(float(node["leaf_value"]))
        return first_leaf - len(columns["leaf"])
    if node["decision_type"] != "<=":
        raise ConfigError(f"LightGBM split by {node['decision_type']!r}; only '<=' can be served")
    at = len(columns["feature"])
    columns["feature"].append(int(node["split_feature"]))
    columns["threshold"].append(float(node["threshold"]))
    columns["left"].append(0)
    columns["right"].append(0)
    columns["left"][at] = _add(node["left_child"], columns, first_node, first_leaf)
    columns["right"][at] = _add(node["right_child"], columns, first_node, first_leaf)
    return at - first_node
