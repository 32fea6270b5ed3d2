"""Funnel rates by hand, by scenario, and what cannot be computed."""

import numpy as np
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from ranker.funnel_rates import funnel_rates


def test_rates_by_scenario() -> None:
    log = LoggedDataset(
        {
            "user_id": np.array([1, 1, 2, 2, 3]),
            "tab": np.array([0, 0, 0, 1, 1]),
            "click": np.array([1, 0, 1, 0, 0]),
            "buy": np.array([1, 0, 0, 0, 0]),
        }
    )
    found = funnel_rates(log, scenario="tab")
    assert found["0"] == pytest.approx({"n": 3, "ctr": 2 / 3, "cvr": 0.5, "ctcvr": 1 / 3, "uvctr": 1.0, "uv_ctcvr": 0.5})
    assert found["1"]["uvctr"] == 0
    assert np.isnan(found["1"]["cvr"])
    assert found["all"]["uvctr"] == pytest.approx(2 / 3)


def test_an_unobserved_label_is_refused() -> None:
    log = LoggedDataset({"user_id": np.array([1]), "click": np.array([1.0]), "buy": np.array([np.nan])})
    with pytest.raises(DataError, match="not observed"):
        funnel_rates(log)
