"""From events to one row a unit, in the database: who is in which bucket, and what they did before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.arrays import AnyArray, Bools, Floats, Ints
from experiment.effects import Arm
from experiment.metrics import COUNTS, Metric, UnitColumn
from experiment.plan_parts import Experiment
from experiment.store.interface import EventStore, quote

DAY_MS = 86_400_000


@dataclass(frozen=True)
class UnitTable:
    """Units `[n]` of one experiment.

    `bucket` holds codes into `buckets`; `columns` what each unit did after its first exposure (and `pre_*` before it).
    `n_multiple` units saw several buckets and `n_forced` were forced into one; both are left out.
    `n_immature` units have not been there for the whole metric window yet; `n_unknown` are in a bucket the plan does not have.
    """

    experiment: Experiment
    buckets: tuple[str, ...]
    unit_key: Ints
    bucket: Ints
    first_ms: Ints
    columns: Mapping[str, Floats]
    segment: AnyArray | None = None
    n_multiple: int = 0
    n_forced: int = 0
    n_immature: int = 0
    n_unknown: int = 0
    assigned: Mapping[str, int] = field(default_factory=dict)

    def arm(self, bucket: str, rows: Bools | None = None) -> Arm:
        """The units of one bucket (of some rows) as moments."""
        chosen = self.bucket == self.buckets.index(bucket)
        if rows is not None:
            chosen &= rows
        return Arm({name: column[chosen] for name, column in self.columns.items()})

    def counts(self) -> dict[str, int]:
        """Units by bucket."""
        n = np.bincount(self.bucket, minlength=len(self.buckets))
        return dict(zip(self.buckets, n.tolist(), strict=True))


def read_units(
    store: EventStore,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    now_ms: int | None = None,
    segment: str | None = None,
) -> UnitTable:
    """Aggregate an experiment's events to units.

    An event counts from its unit's first exposure on (plus `burn_in_days`), for `window_days` where the plan sets them; feedback
    counts at the time of the request it answers. For a user experiment every request of the user counts, so that users whose
    attributes change later stay in; for other units the requests that were assigned to the unit count.

    Args:
        now_ms: With `window_days`: units whose window is not over by then are left out; default the newest assignment.
        segment: `scenario` notes each unit's scenario; of several the first by name.
    """
    buckets = tuple(bucket.name for bucket in experiment.buckets)
    columns = tuple(dict.fromkeys(column for metric in metrics for column in metric.columns))
    before = {column for metric in metrics if metric.cuped for column in metric.columns}
    span = store.select(
        "SELECT coalesce(min(time_ms), 0) AS started, coalesce(max(time_ms), 0) AS newest "
        f"FROM assignments WHERE experiment = {quote(experiment.name)}"
    )
    now_ms = int(span["newest"][0]) if now_ms is None else now_ms
    rows = store.select(_sql(experiment, columns, before, segment, int(span["started"][0])))
    multiple = rows["bucket"] == -2
    forced = rows["forced"] > 0
    window = experiment.analysis.window_days
    first = np.asarray(rows["first_ms"], np.int64)
    immature = first + _ms(window) > now_ms if window is not None else np.zeros(len(first), bool)
    assigned = np.bincount(rows["bucket"][~forced & ~multiple & (rows["bucket"] >= 0)], minlength=len(buckets))
    keep = ~multiple & ~forced & ~immature & (rows["bucket"] >= 0)
    everything = keep.all()

    def kept(name: str) -> AnyArray:
        return rows[name] if everything else rows[name][keep]

    names = [column.name for column in columns] + [column.before for column in columns if column in before]
    return UnitTable(
        experiment,
        buckets,
        kept("unit_key"),
        kept("bucket").astype(np.int64),
        kept("first_ms"),
        {name: np.asarray(kept(name), float) for name in names},
        kept("segment") if segment else None,
        int((multiple & ~forced).sum()),
        int(forced.sum()),
        int((immature & ~multiple & ~forced).sum()),
        int(((rows["bucket"] == -1) & ~forced).sum()),
        dict(zip(buckets, assigned.tolist(), strict=True)),
    )


def _sql(
    experiment: Experiment, columns: Sequence[UnitColumn], before: set[UnitColumn], segment: str | None, started_ms: int
) -> str:
    """One query; tables are joined by their 64-bit keys."""
    rule = experiment.analysis
    by_user = experiment.unit == "user"
    codes = " ".join(f"WHEN {quote(bucket.name)} THEN {code}" for code, bucket in enumerate(experiment.buckets))
    post = "t.time_ms >= u.first_ms" + (f" + {_ms(rule.burn_in_days)}" if rule.burn_in_days else "")
    if rule.window_days is not None:
        post += f" AND t.time_ms < u.first_ms + {_ms(rule.window_days)}"
    if experiment.switchback is not None:
        window, burn_in = experiment.switchback.window_minutes * 60_000, experiment.switchback.burn_in_minutes * 60_000
        post += f" AND t.time_ms % {window} >= {burn_in}"
    pre = f"t.time_ms < u.first_ms AND t.time_ms >= u.first_ms - {_ms(rule.pre_days)}" if by_user and rule.pre_days else "FALSE"
    needs_pre = bool(before) and pre != "FALSE"
    oldest = started_ms - (_ms(rule.pre_days) if needs_pre else 0)
    parts = [
        f"""units AS (
  SELECT unit_key, min(time_ms) AS first_ms, CASE WHEN min(bucket) <> max(bucket) THEN -2 ELSE
    CASE min(bucket) {codes} ELSE -1 END END AS bucket, max(CASE WHEN forced THEN 1 ELSE 0 END) AS forced
  FROM assignments WHERE experiment = {quote(experiment.name)} GROUP BY unit_key)"""
    ]
    if by_user:
        source = "{table} t JOIN units u ON t.user_key = u.unit_key"
        requests, exposures = source.format(table="requests"), source.format(table="exposures")
    else:
        requests = "assignments t JOIN units u ON t.unit_key = u.unit_key"
        exposures = "exposures e JOIN asked t ON e.request_key = t.request_key"
    only = f" AND t.experiment = {quote(experiment.name)}" if not by_user else ""
    asked = any(column.source not in COUNTS or column.source != "exposures" for column in columns) or not by_user or segment
    joined = ["units u"]
    select = ["u.unit_key", "u.first_ms", "u.bucket", "u.forced"]
    flags = f"({post}) AS post, ({pre}) AS pre" if needs_pre else f"({post}) AS post"
    if asked:
        scenario = ", t.scenario" if segment == "scenario" and by_user else ""
        parts.append(
            f"asked AS (SELECT t.request_key, t.time_ms, u.unit_key, {flags}{scenario} FROM {requests} "
            f"WHERE t.time_ms >= {oldest} AND (({post}){f' OR ({pre})' if needs_pre else ''}){only})"
        )
    for name, query in _sources(columns, before, needs_pre, by_user, exposures, post, pre, oldest).items():
        parts.append(f"{name} AS ({query})")
        joined.append(f"LEFT JOIN {name} ON {name}.unit_key = u.unit_key")
    for column in columns:
        table = column.source if column.source in COUNTS else "answered"
        select.append(_value(column, f"{table}.post_{column.source}", column.name))
        if column in before:
            source = f"{table}.pre_{column.source}" if needs_pre else "0"
            select.append(_value(column, source, column.before))
    if segment == "scenario":
        parts.append("scenes AS (SELECT unit_key, min(scenario) AS segment FROM asked a WHERE post GROUP BY unit_key)")
        joined.append("LEFT JOIN scenes ON scenes.unit_key = u.unit_key")
        select.append("coalesce(scenes.segment, '') AS segment")
    return "WITH " + ",\n".join(parts) + "\nSELECT " + ", ".join(select) + "\nFROM " + "\n  ".join(joined)


def _sources(
    columns: Sequence[UnitColumn],
    before: set[UnitColumn],
    needs_pre: bool,
    by_user: bool,
    exposures: str,
    post: str,
    pre: str,
    oldest: int,
) -> dict[str, str]:
    """The aggregation behind each kind of number, one row a unit."""
    wanted: dict[str, bool] = {}
    for column in columns:
        wanted[column.source] = wanted.get(column.source, False) or (column in before and needs_pre)
    found: dict[str, str] = {}
    if "exposures" in wanted:
        when = ("post", "pre") if not by_user else (post, pre)
        key = "t.unit_key" if not by_user else "u.unit_key"
        sums = [f"sum(CASE WHEN {when[0]} THEN 1 ELSE 0 END) AS post_exposures"]
        if wanted["exposures"]:
            sums.append(f"sum(CASE WHEN {when[1]} THEN 1 ELSE 0 END) AS pre_exposures")
        where = f" WHERE t.time_ms >= {oldest}" if by_user else ""
        found["exposures"] = f"SELECT {key}, {', '.join(sums)} FROM {exposures}{where} GROUP BY {key}"
    if "requests" in wanted:
        sums = ["sum(CASE WHEN post THEN 1 ELSE 0 END) AS post_requests"]
        if wanted["requests"]:
            sums.append("sum(CASE WHEN pre THEN 1 ELSE 0 END) AS pre_requests")
        found["requests"] = f"SELECT unit_key, {', '.join(sums)} FROM asked GROUP BY unit_key"
    if "active_days" in wanted:
        day = f"(time_ms - time_ms % {DAY_MS})"
        sums = [f"count(DISTINCT CASE WHEN post THEN {day} END) AS post_active_days"]
        if wanted["active_days"]:
            sums.append(f"count(DISTINCT CASE WHEN pre THEN {day} END) AS pre_active_days")
        found["active_days"] = f"SELECT unit_key, {', '.join(sums)} FROM asked GROUP BY unit_key"
    tasks = [source for source in wanted if source not in COUNTS]
    if tasks:
        sums = []
        for task in tasks:
            sums.append(f"sum(CASE WHEN a.post AND f.task = {quote(task)} THEN f.value END) AS post_{task}")
            if wanted[task]:
                sums.append(f"sum(CASE WHEN a.pre AND f.task = {quote(task)} THEN f.value END) AS pre_{task}")
        listed = ", ".join(map(quote, tasks))
        found["answered"] = (
            f"SELECT a.unit_key, {', '.join(sums)} FROM feedback f JOIN asked a ON f.request_key = a.request_key "
            f"WHERE f.task IN ({listed}) GROUP BY a.unit_key"
        )
    return found


def _value(column: UnitColumn, source: str, name: str) -> str:
    value = f"CAST(coalesce({source}, 0) AS DOUBLE PRECISION)"
    if column.aggregation == "any":
        value = f"CASE WHEN {value} > 0 THEN CAST(1 AS DOUBLE PRECISION) ELSE CAST(0 AS DOUBLE PRECISION) END"
    return f"{value} AS {name}"


def _ms(days: float | None) -> int:
    return round((days or 0.0) * DAY_MS)
