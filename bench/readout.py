"""One experiment read from its event log: 10 M exposures of 500 k users, six metrics with CUPED, beside pandas on the same rows.

`seconds` is one whole readout from the DuckDB file: units, moments, tests, verdict. `rss_mb` is the peak of a fresh process
that opens the file and reads the experiment once. pandas starts from frames in memory, which spares it the reading: once with
ids as they are logged, once with the store's integer keys, which spares it all work on text. Its effects must equal ours to
seven digits.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from bench.harness import ROOT, Bench, interleave, ratio, timed
from core.arrays import Ints
from experiment.plan import Plan
from experiment.readout import Report, readout
from experiment.store import EventStore, open_store

DAY = 86_400_000
START, PRE_DAYS, N_DAYS = 100 * DAY, 7, 14
TASKS = {"click": 0.12, "like": 0.02, "share": 0.004}
PLAN = """
default_strategy: hand_set
metrics:
  - {name: likes_per_user, kind: mean, task: like, cuped: true}
  - {name: clicks_per_user, kind: mean, task: click, cuped: true}
  - {name: watch_s_per_user, kind: mean, task: watch_s, cuped: true}
  - {name: likers, kind: proportion, task: like, cuped: true}
  - {name: ctr, kind: ratio, numerator: click, denominator: exposures, cuped: true}
  - {name: share_rate, kind: ratio, numerator: share, denominator: exposures, cuped: true}
layers:
  - name: fusion
    experiments:
      - name: searched
        buckets: [{name: a, weight: 0.5, strategy: hand_set}, {name: b, weight: 0.5, strategy: searched}]
        analysis: {primary: likes_per_user, pre_days: 7}
"""


def main() -> None:
    """Build the log, measure, print."""
    bench = Bench("readout", ["seconds", "rss_mb", "ratio_to_pandas"], arguments=_arguments)
    if bench.args.worker:
        print(json.dumps(_worker(bench.args.worker)))
        return
    n_users, page, rounds = (50_000, 8, 3) if bench.quick else (500_000, 8, 5)
    plan = Plan.from_yaml(PLAN)
    with tempfile.TemporaryDirectory(dir=bench.args.folder) as folder:
        url = f"duckdb://{folder}/events.duckdb"
        store = open_store(url)
        n = build(store, plan, n_users, int(2.5 * n_users), page)
        store.close()
        worker = [sys.executable, "-m", "bench.readout", "--worker", url]
        done = subprocess.run(worker, cwd=ROOT, check=True, capture_output=True, text=True)
        alone = json.loads(done.stdout.splitlines()[-1])
        store = open_store(url, read_only=True)
        experiment = plan.experiment("searched")
        frames, keyed = load_frames(store, text=True), load_frames(store, text=False)
        report = readout(store, experiment, plan.metrics)
        check_equal(report, by_pandas(frames))
        check_equal(report, by_pandas(keyed))
        contestants = {
            "ours": timed(lambda: readout(store, experiment, plan.metrics)),
            "pandas": timed(lambda: by_pandas(frames)),
            "keyed": timed(lambda: by_pandas(keyed)),
        }
        samples = interleave(contestants, rounds=rounds)
        store.close()
    bench.table(
        ["", "seconds"],
        [
            ["scorefusion, from the file", str(samples["ours"])],
            ["pandas, frames in memory, ids as logged", str(samples["pandas"])],
            ["pandas, frames in memory, integer keys", str(samples["keyed"])],
        ],
        title=f"{n['exposures']:,} exposures, {n['feedback']:,} answers, {n_users:,} users, 6 metrics with CUPED",
    )
    bench.figure("seconds", samples["ours"].median)
    bench.figure("rss_mb", alone["rss_mb"])
    bench.figure("ratio_to_pandas", ratio(samples["pandas"], samples["ours"]))
    bench.figure("ratio_to_pandas_with_integer_keys", ratio(samples["keyed"], samples["ours"]))
    bench.figures["first_seconds"] = alone["seconds"]
    bench.note("first_seconds", "the one readout of the fresh process, nothing cached")
    bench.finish()


def build(store: EventStore, plan: Plan, n_users: int, n_requests: int, page: int, seed: int = 0) -> dict[str, int]:
    """Write the log in chunks of requests; a third of it lies before the experiment."""
    rng = np.random.default_rng(seed)
    taste = rng.gamma(4.0, 0.25, n_users)
    names = np.array([f"user{i:07d}" for i in range(n_users)], dtype=object)
    bucket = plan.assign_many(names)["fusion"].bucket_names()
    everyone = np.concatenate([np.arange(n_users), rng.integers(0, n_users, n_requests - n_users)])
    total = dict.fromkeys(("requests", "exposures", "feedback"), 0)
    chunk = 125_000
    for start in tqdm(range(0, n_requests, chunk), desc="log", unit="chunk", disable=None):
        user: Ints = everyone[start : start + chunk]
        index = np.arange(start, start + len(user))
        before = (index >= n_users) & (index % 5 < 2)
        time_ms = np.where(
            before, START - rng.integers(1, PRE_DAYS * DAY, len(user)), START + rng.integers(0, N_DAYS * DAY, len(user))
        )
        ids = np.char.add("req", index.astype("U10")).astype(object)
        row = np.repeat(np.arange(len(user)), page)
        item = rng.integers(0, 1_000_000, len(row))
        tables = {
            "requests": pa.table({"request_id": ids, "time_ms": time_ms, "user_id": names[user]}),
            "assignments": _assignments(ids[~before], time_ms[~before], bucket[user[~before]], names[user[~before]]),
            "exposures": pa.table(
                {"request_id": ids[row], "time_ms": time_ms[row], "user_id": names[user[row]], "item_id": item}
            ),
            "feedback": _feedback(rng, ids[row], item, time_ms[row], taste[user[row]], start * page),
        }
        store.append(**tables)
        for name in total:
            total[name] += tables[name].num_rows
    return total


def load_frames(store: EventStore, *, text: bool) -> dict[str, pd.DataFrame]:
    """What pandas needs, in memory: ids as they are logged, or (sparing it all work on text) the store's integer keys."""
    unit, user, request = ("unit", "user_id", "request_id") if text else ("unit_key", "user_key", "request_key")
    queries = {
        "assignments": f"SELECT {unit} AS unit_key, time_ms, bucket FROM assignments WHERE experiment = 'searched'",
        "requests": f"SELECT {request} AS request_key, {user} AS user_key, time_ms FROM requests",
        "exposures": f"SELECT {user} AS user_key, time_ms FROM exposures",
        "feedback": f"SELECT {request} AS request_key, task, value FROM feedback",
    }
    frames = {name: store.arrow(query).to_pandas() for name, query in queries.items()}
    for name, column in (("assignments", "bucket"), ("feedback", "task")):
        frames[name][column] = frames[name][column].astype("category")
    return frames


def by_pandas(frames: dict[str, pd.DataFrame]) -> dict[str, tuple[float, float]]:
    """The same six metrics: CUPED-adjusted difference and its standard error."""
    assigned = frames["assignments"].groupby("unit_key")
    units = pd.DataFrame({"first": assigned.time_ms.min(), "bucket": assigned.bucket.first()})
    first = units["first"]
    shown = frames["exposures"]
    shown = shown.assign(first=shown.user_key.map(first)).dropna()
    asked = frames["requests"]
    asked = asked.assign(first=asked.user_key.map(first)).dropna()
    answered = frames["feedback"].merge(asked, on="request_key")
    for when in ("post", "pre"):
        units[f"{when}_exposures"] = shown[_when(shown, when)].groupby("user_key").size().reindex(units.index).fillna(0)
        rows = answered[_when(answered, when)]
        sums = rows.groupby(["user_key", "task"], observed=True).value.sum().unstack(fill_value=0).reindex(units.index).fillna(0)
        for task in (*TASKS, "watch_s"):
            units[f"{when}_{task}"] = sums[task]
        units[f"{when}_liker"] = (units[f"{when}_like"] > 0).astype(float)
    found = {}
    metrics = {"likes_per_user": "like", "clicks_per_user": "click", "watch_s_per_user": "watch_s", "likers": "liker"}
    for name, task in metrics.items():
        found[name] = _effect(units, units[f"post_{task}"], units[f"pre_{task}"])
    for name, task in {"ctr": "click", "share_rate": "share"}.items():
        found[name] = _ratio_effect(units, task)
    return found


def check_equal(report: Report, peer: dict[str, tuple[float, float]]) -> None:
    """Both contestants must have computed the same thing."""
    for name, (diff, se) in peer.items():
        row = report.row(name)
        if not np.allclose([row.diff, row.se], [diff, se], rtol=1e-7, atol=1e-12):
            raise SystemExit(f"{name}: ours {row.diff}, {row.se} and pandas {diff}, {se} differ: the comparison means nothing")


def _effect(units: pd.DataFrame, post: pd.Series[float], pre: pd.Series[float]) -> tuple[float, float]:
    slope = float(np.cov(post, pre)[0, 1] / pre.var())
    adjusted = post - slope * pre
    a, b = adjusted[units.bucket == "a"], adjusted[units.bucket == "b"]
    return float(b.mean() - a.mean()), float(np.sqrt(a.var() / len(a) + b.var() / len(b)))


def _ratio_effect(units: pd.DataFrame, task: str) -> tuple[float, float]:
    """CUPED of a ratio: every bucket linearised around its own ratio, the slope from all units."""
    names = [f"post_{task}", "post_exposures", f"pre_{task}", "pre_exposures"]
    slope_parts = _linear_covariance(units[names])
    slope = slope_parts[0, 1] / slope_parts[1, 1]
    values, variances, pre = [], [], []
    for bucket in ("a", "b"):
        rows = units.loc[units.bucket == bucket, names]
        sums = rows.sum()
        parts = _linear_covariance(rows)
        values.append(sums.iloc[0] / sums.iloc[1])
        pre.append(sums.iloc[2] / sums.iloc[3])
        variances.append((parts[0, 0] + slope**2 * parts[1, 1] - 2 * slope * parts[0, 1]) / len(rows))
    diff = (values[1] - slope * pre[1]) - (values[0] - slope * pre[0])
    return float(diff), float(np.sqrt(sum(variances)))


def _linear_covariance(rows: pd.DataFrame) -> np.typing.NDArray[np.float64]:
    sums, n = rows.sum(), len(rows)
    linear = []
    for numerator, denominator in ((0, 1), (2, 3)):
        value = sums.iloc[numerator] / sums.iloc[denominator]
        linear.append((rows.iloc[:, numerator] - value * rows.iloc[:, denominator]) / (sums.iloc[denominator] / n))
    return np.cov(linear[0], linear[1])


def _when(rows: pd.DataFrame, when: str) -> pd.Series[bool]:
    if when == "post":
        return rows.time_ms >= rows["first"]
    return (rows.time_ms < rows["first"]) & (rows.time_ms >= rows["first"] - PRE_DAYS * DAY)


def _assignments(ids: pa.Array, time_ms: Ints, bucket: pa.Array, unit: pa.Array) -> pa.Table:
    n = len(ids)
    named = {"layer": "fusion", "experiment": "searched"}
    columns = {"request_id": ids, "time_ms": time_ms, "bucket": bucket, "unit": unit, "forced": np.zeros(n, bool)}
    return pa.table({**columns, **{name: pa.repeat(value, n) for name, value in named.items()}})


def _feedback(rng: np.random.Generator, ids: pa.Array, item: Ints, time_ms: Ints, taste: pa.Array, start: int) -> pa.Table:
    parts = []
    for task, rate in TASKS.items():
        rows = np.flatnonzero(rng.random(len(ids)) < rate * taste)
        parts.append((task, rows, np.ones(len(rows))))
        if task == "click":
            parts.append(("watch_s", rows, rng.gamma(2.0, 10.0, len(rows))))
    tables = []
    for task, rows, value in parts:
        event = np.char.add(f"{task}-", (start + rows).astype("U12")).astype(object)
        columns = {
            "event_id": event,
            "request_id": ids[rows],
            "item_id": item[rows],
            "value": value,
            "time_ms": time_ms[rows] + 1000,
        }
        tables.append(pa.table({**columns, "task": pa.repeat(task, len(rows))}))
    return pa.concat_tables(tables)


def _worker(url: str) -> dict[str, float]:
    """One readout in this process, its seconds and the process's peak memory."""
    plan = Plan.from_yaml(PLAN)
    store = open_store(url, read_only=True)
    seconds = timed(lambda: readout(store, plan.experiment("searched"), plan.metrics))()
    store.close()
    return {"seconds": seconds, "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the temporary database of about 2 GB goes")


if __name__ == "__main__":
    main()
