"""The store's events joined into a logged dataset: one row a shown item, with scores, weights, bucket and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.arrays import AnyArray
from core.events import SCORE, WEIGHT
from core.logs import LoggedDataset
from experiment.store.interface import EventStore, quote


def read_log(
    store: EventStore,
    *,
    experiment: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    tasks: Sequence[str] | None = None,
) -> LoggedDataset:
    """Impressions with what was known and what came back, for search, training and off-policy evaluation.

    Columns: `request_id`, `user_id`, `item_id`, `scenario`, `position`, `time_ms`, `final`, `propensity`, `strategy`, `degraded`,
    `bucket`, `score_<task>`, `weight_<name>`, and a label for every task: the largest value that was sent, 0 without any.
    A score or weight that a request did not have is NaN. Rows are in the order of time, request and position.

    Args:
        experiment: Fills `bucket` (empty for requests outside) from this experiment, and leaves forced requests out.
        since_ms, until_ms: Requests from (inclusive) and to (exclusive) these times.
        tasks: Labels to join; by default every task with feedback.
    """
    if tasks is None:
        tasks = [str(task) for task in store.select("SELECT DISTINCT task FROM feedback ORDER BY task")["task"]]
    table = store.arrow(_sql(experiment, since_ms, until_ms, tasks))
    columns: dict[str, AnyArray] = {
        name: table.column(name).to_numpy() for name in table.column_names if not name.startswith("_")
    }
    columns |= _spread(table, "_tasks", "_scores", SCORE)
    columns |= _spread(table, "_weight_names", "_weights", WEIGHT)
    return LoggedDataset(columns)


def _sql(experiment: str | None, since_ms: int | None, until_ms: int | None, tasks: Sequence[str]) -> str:
    when = [f"r.time_ms >= {int(since_ms)}"] if since_ms is not None else []
    when += [f"r.time_ms < {int(until_ms)}"] if until_ms is not None else []
    joins, bucket = "", "''"
    if experiment is not None:
        joins += f" LEFT JOIN assignments a ON a.request_id = r.request_id AND a.experiment = {quote(experiment)}"
        bucket = "coalesce(a.bucket, '')"
        when.append("NOT coalesce(a.forced, FALSE)")
    labels = ""
    if tasks:
        sums = ", ".join(f"max(CASE WHEN task = {quote(t)} THEN value END) AS label_{i}" for i, t in enumerate(tasks))
        joins += (
            f" LEFT JOIN (SELECT request_id, item_id, {sums} FROM feedback GROUP BY request_id, item_id) f"
            " ON f.request_id = e.request_id AND f.item_id = e.item_id"
        )
        labels = "".join(f', coalesce(f.label_{i}, 0) AS "{t}"' for i, t in enumerate(tasks))
    where = f" WHERE {' AND '.join(when)}" if when else ""
    return (
        "SELECT e.request_id, e.user_id, e.item_id, coalesce(r.scenario, '') AS scenario, e.position, r.time_ms, e.final, "
        "r.propensity, coalesce(r.strategy, '') AS strategy, coalesce(r.degraded, '') AS degraded, "
        f"{bucket} AS bucket{labels}, array_to_string(r.tasks, ',') AS _tasks, e.scores AS _scores, "
        "array_to_string(r.weight_names, ',') AS _weight_names, r.weights AS _weights "
        f"FROM exposures e JOIN requests r ON r.request_id = e.request_id{joins}{where} "
        "ORDER BY r.time_ms, e.request_id, e.position, e.item_id"
    )


def _spread(table: pa.Table, names: str, values: str, prefix: str) -> dict[str, AnyArray]:
    """A list column as one column a name; rows name their values themselves, by a comma-joined text."""
    named = table.column(names).combine_chunks()
    lists = table.column(values).combine_chunks()
    n = table.num_rows
    found: dict[str, AnyArray] = {}
    texts: Any = named.to_pylist() if len(named) else []
    text_of = np.array([text or "" for text in texts], dtype=object)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    for text in sorted(set(text_of.tolist()) - {""}):
        keys = text.split(",")
        rows = np.flatnonzero((text_of == text) & (lengths == len(keys)))
        matrix = np.asarray(lists.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False), float).reshape(-1, len(keys))
        for index, key in enumerate(keys):
            column = found.setdefault(prefix + key, np.full(n, np.nan))
            column[rows] = matrix[:, index]
    return found
