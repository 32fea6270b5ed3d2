"""Training LambdaMART over task scores (LightGBM), constrained to rise with every `up` task and fall with every `down` task."""

from __future__ import annotations

import lightgbm
import numpy as np

from core.errors import ConfigError, DataError
from core.tasks import TaskSet
from fusion.learned.rows import Rows
from fusion.learned.trees import LambdaMart

_LEVELS = 16  # relevance becomes this many grades at most


def train_lambdamart(
    rows: Rows,
    tasks: TaskSet,
    *,
    n_trees: int = 100,
    n_leaves: int = 15,
    learning_rate: float = 0.05,
    seed: int = 0,
    n_threads: int = 1,
) -> LambdaMart:
    """Fit on `labelled` or `distilled` rows whose score columns are `tasks.scored`.

    Burges, From RankNet to LambdaRank to LambdaMART (2010). Relevance is graded by its distinct values (at most 16 quantiles).
    """
    if rows.scores.shape[1] != len(tasks.scored):
        raise ConfigError(f"rows hold {rows.scores.shape[1]} score columns; the tasks are {', '.join(tasks.scored)}")
    grades = _grades(rows)
    if grades.max() == 0:
        raise DataError("all rows have the same relevance; LambdaMART has nothing to learn")
    sizes = np.diff(rows.groups)
    data = lightgbm.Dataset(rows.scores, label=grades, group=sizes[sizes > 0], feature_name=list(tasks.scored))
    params = {
        "objective": "lambdarank",
        "label_gain": list(range(_LEVELS + 1)),
        "monotone_constraints": [1 if tasks[task].goal == "up" else -1 for task in tasks.scored],
        "monotone_constraints_method": "basic",
        "num_leaves": n_leaves,
        "learning_rate": learning_rate,
        "min_data_in_leaf": 20,
        "seed": seed,
        "deterministic": True,
        "num_threads": n_threads,
        "verbosity": -1,
    }
    booster = lightgbm.train(params, data, num_boost_round=n_trees)
    return LambdaMart(tasks.scored, booster.model_to_string())


def _grades(rows: Rows) -> np.ndarray:
    values = np.unique(rows.relevance)
    if len(values) > _LEVELS:
        values = np.unique(np.quantile(rows.relevance, np.linspace(0, 1, _LEVELS)))
    return np.asarray(np.searchsorted(values, rows.relevance, side="right") - 1)
