"""Cross-fitted scores come from earlier days only."""

import numpy as np
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.config import TrainConfig
from ranker.crossfit import DAY_MS, cross_fit
from ranker.features import Feature, FeatureSpec

SPEC = FeatureSpec([Feature("item_id", vocabulary="range", size=5)], TaskSet([TaskSpec("click")]))
CONFIG = TrainConfig(epochs=1, precision="float32")


def log(n: int = 400, seed: int = 0) -> LoggedDataset:
    rng = np.random.default_rng(seed)
    item = rng.integers(0, 5, n)
    day = np.arange(n) * 4 // n
    return LoggedDataset(
        {
            "user_id": rng.integers(0, 9, n),
            "item_id": item,
            "time_ms": day * DAY_MS + 5,
            "click": (rng.random(n) < 0.2 + 0.15 * item).astype(int),
        }
    )


def test_every_day_from_the_third_is_scored_once() -> None:
    scored = cross_fit(SPEC, "shared_bottom", log(), config=CONFIG, progress=False)
    assert len(scored) == 200
    assert np.all((scored["score_click"] > 0) & (scored["score_click"] < 1))


def test_later_labels_change_nothing() -> None:
    data = log()
    late = data["time_ms"] >= 3 * DAY_MS
    other = data.with_columns({"click": np.where(late, 1 - data["click"], data["click"])})
    a, b = (cross_fit(SPEC, "shared_bottom", part, days=[2, 3], config=CONFIG, progress=False) for part in (data, other))
    assert np.array_equal(a["score_click"], b["score_click"])


def test_a_day_needs_two_before_it() -> None:
    with pytest.raises(DataError, match="fewer than two days"):
        cross_fit(SPEC, "shared_bottom", log(), days=[1], config=CONFIG, progress=False)
    with pytest.raises(DataError, match="not in the log"):
        cross_fit(SPEC, "shared_bottom", log(), days=[9], config=CONFIG, progress=False)
