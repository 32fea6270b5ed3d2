"""Labels: sample spaces, scales and their inverses, and labels that do not fit their task."""

import numpy as np
import pytest

from core.errors import DataError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.targets import Scale, Targets, observed, require_both_classes

LOG = LoggedDataset({"click": np.array([1, 0, 1, 1]), "like": np.array([1.0, 1.0, np.nan, 0.0]), "w": np.array([1.0, 2, 3, 4])})


def test_sample_space_and_holes_mask_rows() -> None:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("like", sample_space="click")])
    targets = Targets.make(LOG, tasks, {}, weight="w")
    assert targets.values.tolist() == [[1, 1], [0, 0], [1, 0], [1, 0]]
    assert targets.weights.tolist() == [[1, 1], [2, 0], [3, 0], [4, 4]]


@pytest.mark.parametrize("kind", ["standard", "log1p"])
def test_scales_invert(kind: str) -> None:
    label = np.random.default_rng(0).exponential(30, 1000)
    scale = Scale.fit(kind, label)
    again = scale.invert(scale.apply(label))
    assert np.allclose(np.log1p(again) - np.log1p(label), np.log(scale.smear), atol=1e-9)


def test_log_scale_predicts_a_mean_not_a_median() -> None:
    label = np.random.default_rng(0).lognormal(2, 1, 50_000)
    scale = Scale.fit("log1p", label)
    assert scale.invert(np.zeros(1))[0] == pytest.approx(label.mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("label", "task", "message"),
    [
        ([0, 2], TaskSpec("y"), "holds 2; use 0 and 1"),
        ([0, 3], TaskSpec("y", "multiclass", n_classes=3), r"classes must be 0\.\.2"),
        ([0, np.inf], TaskSpec("y", "regression"), "infinite"),
        (["a", "b"], TaskSpec("y"), "holds text"),
    ],
)
def test_labels_that_do_not_fit(label: list[object], task: TaskSpec, message: str) -> None:
    with pytest.raises(DataError, match=message):
        observed({"y": np.array(label)}, task)


def test_one_class_is_refused_with_its_part() -> None:
    with pytest.raises(DataError, match=r"'click' has one class only, label 1 in all 2 valid rows"):
        require_both_classes(LOG.take(np.array([0, 2])), TaskSet([TaskSpec("click")]), "valid")
    with pytest.raises(DataError, match="no observed row in the train rows"):
        require_both_classes(LOG.take(np.array([2])), TaskSet([TaskSpec("like")]), "train")
