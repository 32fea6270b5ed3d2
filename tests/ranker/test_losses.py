"""Masked losses by hand; a task without rows costs exactly nothing."""

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.tasks import TaskSet, TaskSpec
from ranker.heads import Outputs
from ranker.losses import TaskLosses

TASKS = TaskSet(
    [
        TaskSpec("click"),
        TaskSpec("grade", "multiclass", n_classes=3),
        TaskSpec("watch_s", "regression", unit_of_measure="s"),
    ]
)


def test_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 3.0]])  # click, watch_s
    grades = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    values = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]])
    weights = torch.tensor([[1.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
    found = TaskLosses(TASKS)(Outputs(logits, {"grade": grades}), values, weights).tolist()
    click = (np.log(2) + 3 * np.log1p(np.exp(2.0))) / 4
    assert found == pytest.approx([click, np.log(3), (1 + 4) / 2], rel=1e-6)


def test_huber_is_linear_far_away() -> None:
    tasks = TaskSet([TaskSpec("watch_s", "regression", unit_of_measure="s")])
    far = Outputs(torch.tensor([[10.0]]))
    assert TaskLosses(tasks, "huber")(far, torch.zeros(1, 1), torch.ones(1, 1)).item() == pytest.approx(9.5)
    with pytest.raises(ConfigError, match="'mae' is not one of"):
        TaskLosses(tasks, "mae")


def test_no_rows_cost_nothing_and_push_nothing() -> None:
    logits = torch.zeros(4, 2, requires_grad=True)
    grades = torch.zeros(4, 3, requires_grad=True)
    found = TaskLosses(TASKS)(Outputs(logits, {"grade": grades}), torch.ones(4, 3), torch.zeros(4, 3))
    assert found.tolist() == [0, 0, 0]
    torch.autograd.backward(found.sum())
    assert logits.grad is not None
    assert not logits.grad.any()
