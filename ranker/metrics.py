"""How good predictions are: AUC, GAUC, logloss, calibration, regression and multiclass errors, per task and per scenario."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.arrays import AnyArray, Floats, auc, gauc
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.targets import observed

NAN = float("nan")


def evaluate(
    predictions: Mapping[str, AnyArray], log: LoggedDataset, tasks: TaskSet, *, group: str | None = "user_id"
) -> dict[str, dict[str, float]]:
    """Metrics by task, over the rows of each task's own sample space. What cannot be computed is NaN.

    Args:
        predictions: By task, `[n]`, or `[n, n_classes]` for multiclass.
        group: Column whose values GAUC ranks within; None for no GAUC.
    """
    groups = np.unique(log[group], return_inverse=True)[1] if group is not None and group in log else None
    found = {}
    for task in tasks:
        label, mask = observed(log.columns, task)
        rows = mask > 0
        found[task.name] = task_metrics(task, label[rows], predictions[task.name][rows], None if groups is None else groups[rows])
    return found


def task_metrics(task: TaskSpec, label: Floats, prediction: AnyArray, groups: AnyArray | None = None) -> dict[str, float]:
    """One task's metrics from labels `[n]` and predictions `[n]` (`[n, n_classes]` for multiclass)."""
    prediction = np.asarray(prediction, float)
    if len(label) == 0:
        return {"n": 0.0}
    if task.kind == "regression":
        error = prediction - label
        variance = float(np.var(label))
        r2 = 1 - float(np.mean(error**2)) / variance if variance > 0 else NAN
        return {
            "n": float(len(label)),
            "rmse": float(np.sqrt(np.mean(error**2))),
            "mae": float(np.mean(np.abs(error))),
            "r2": r2,
            "calibration": float(prediction.mean() / label.mean()) if label.mean() else NAN,
        }
    if task.kind == "multiclass":
        classes = label.astype(int)
        chosen = prediction.argmax(1)
        row = {
            "n": float(len(label)),
            "accuracy": float(np.mean(chosen == classes)),
            "logloss": float(-np.mean(np.log(np.clip(prediction[np.arange(len(label)), classes], 1e-12, 1)))),
        }
        for grade in range(task.n_classes or 0):
            hit = float(np.sum((chosen == grade) & (classes == grade)))
            row[f"precision_{grade}"] = hit / float(np.sum(chosen == grade)) if np.any(chosen == grade) else NAN
            row[f"recall_{grade}"] = hit / float(np.sum(classes == grade)) if np.any(classes == grade) else NAN
        return row
    positive = label > 0
    ranked, eligible = gauc(groups, positive, prediction) if groups is not None else (NAN, 0)
    return {
        "n": float(len(label)),
        "positives": float(positive.sum()),
        "auc": auc(positive, prediction),
        "gauc": ranked,
        "gauc_groups": float(eligible),
        "logloss": logloss(label, prediction),
        "ece": ece(label, prediction),
        "calibration": float(prediction.mean() / label.mean()) if positive.any() else NAN,
    }


def logloss(label: Floats, probability: Floats) -> float:
    """Mean binary cross-entropy, probabilities kept 1e-12 away from 0 and 1.

    >>> round(logloss(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 6)
    0.693147
    """
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def ece(label: Floats, probability: Floats, n_bins: int = 15) -> float:
    """Expected calibration error over bins of equal counts: sum_b n_b/n |mean label - mean probability| (Naeini et al. 2015).

    >>> ece(np.array([1.0, 0.0]), np.array([0.8, 0.4]), n_bins=1)
    0.10000000000000009
    """
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(n_bins, len(order)))
    gaps = [abs(float(label[part].mean() - probability[part].mean())) * len(part) for part in parts if len(part)]
    return float(sum(gaps) / len(order))


def mtl_gain(
    multi: Mapping[str, Mapping[str, float]], single: Mapping[str, Mapping[str, float]], metric: str = "auc"
) -> dict[str, float]:
    """metric(multi) - metric(single) by task; PLE's MTL gain, so that above zero is better whenever the metric is.

    >>> mtl_gain({"click": {"auc": 0.75}}, {"click": {"auc": 0.5}})
    {'click': 0.25}
    """
    return {name: multi[name][metric] - single[name][metric] for name in multi if metric in multi[name] and name in single}


def by_scenario(
    predictions: Mapping[str, AnyArray], log: LoggedDataset, tasks: TaskSet, scenario: str, *, group: str | None = "user_id"
) -> dict[str, dict[str, dict[str, float]]]:
    """`evaluate` for each value of the scenario column."""
    found = {}
    for value in np.unique(log[scenario]):
        rows = log[scenario] == value
        part = {name: np.asarray(p)[rows] for name, p in predictions.items()}
        found[str(value)] = evaluate(part, log.take(rows), tasks, group=group)
    return found


def mean_auc(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Mean AUC of the binary tasks that have one; NaN when none has."""
    found = [row["auc"] for row in metrics.values() if not np.isnan(row.get("auc", NAN))]
    return float(np.mean(found)) if found else NAN
