"""A score table keeps one column a task and knows whether it can be ranked."""

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from core.scores import ScoreTable


def test_columns_by_task_and_rows_by_index() -> None:
    table = ScoreTable(("click", "like"), np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]))
    assert table.take(np.array([2, 0]))["click"].tolist() == [0.5, 0.1]
    assert table.finite
    assert not ScoreTable(("click",), np.array([[np.nan]])).finite


def test_a_wrong_shape_or_name_is_refused() -> None:
    with pytest.raises(DataError, match="2 tasks need"):
        ScoreTable(("click", "like"), np.zeros((3, 1)))
    with pytest.raises(ConfigError, match="unknown task 'share'"):
        ScoreTable(("click",), np.zeros((3, 1)))["share"]
