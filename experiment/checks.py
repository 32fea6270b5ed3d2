"""The contracts every event store and every metric keeps; tests sweep them over all, and over broken ones that must fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.arrays import Floats
from core.errors import DataError
from experiment.effects import Arm, Effect
from experiment.metrics import Metric
from experiment.store.interface import EventStore

Opener = Callable[[], EventStore]  # opens the same, at first empty, store again and again


class MetricCheck(Protocol):
    """A contract of one metric."""

    __name__: str

    def __call__(self, metric: Metric, arms: tuple[Arm, Arm]) -> None: ...


def require(holds: bool, message: str) -> None:
    """Raise with the message unless the contract holds."""
    if not holds:
        raise AssertionError(message)


def feedback_rows(ids: Sequence[str], value: float = 1.0) -> pa.Table:
    """Feedback with these event ids."""
    n = len(ids)
    return pa.table(
        {
            "event_id": list(ids),
            "request_id": [f"r-{i}" for i in ids],
            "item_id": list(range(n)),
            "task": ["click"] * n,
            "value": [value] * n,
            "time_ms": list(range(1000, 1000 + n)),
        }
    )


def impression_rows(requests: Sequence[str], n_items: int = 3) -> dict[str, pa.Table]:
    """Requests of one layer and some items each."""
    n = len(requests)
    request = [r for r in requests for _ in range(n_items)]
    return {
        "requests": pa.table(
            {
                "request_id": list(requests),
                "time_ms": list(range(n)),
                "user_id": [f"u{i}" for i in range(n)],
                "tasks": [["click", "like"]] * n,
                "weights": [[0.5, 1.5]] * n,
                "candidates": [b"\x00\x01"] * n,
            }
        ),
        "assignments": pa.table(
            {
                "request_id": list(requests),
                "time_ms": list(range(n)),
                "layer": ["fusion"] * n,
                "experiment": ["searched"] * n,
                "bucket": ["a", "b"] * (n // 2) + ["a"] * (n % 2),
                "unit": [f"u{i}" for i in range(n)],
                "forced": [False] * n,
            }
        ),
        "exposures": pa.table(
            {
                "request_id": request,
                "time_ms": [i // n_items for i in range(len(request))],
                "user_id": [f"u{i // n_items}" for i in range(len(request))],
                "item_id": [i % n_items for i in range(len(request))],
                "scores": pa.array([[0.25, 0.5]] * len(request), pa.list_(pa.float32())),
            }
        ),
    }


def count(store: EventStore, table: str) -> int:
    """Rows of a table."""
    return int(store.select(f"SELECT count(*) AS n FROM {table}")["n"][0])


def check_feedback_is_kept_once(open_again: Opener) -> None:
    """A retry in a later batch, in the same batch, and after the store was opened again changes nothing."""
    store = open_again()
    done = store.append(feedback=feedback_rows(["a", "b", "a"]))
    require((done.new["feedback"], done.duplicates["feedback"]) == (2, 1), f"same batch: {done}")
    done = store.append(feedback=feedback_rows(["b", "c"], value=9.0))
    require((done.new["feedback"], done.duplicates["feedback"]) == (1, 1), f"later batch: {done}")
    store.close()
    store = open_again()
    store.append(feedback=feedback_rows(["a", "b", "c"]))
    rows = store.arrow("SELECT event_id, value FROM feedback ORDER BY event_id").to_pylist()
    store.close()
    require([row["event_id"] for row in rows] == ["a", "b", "c"], f"after opening again: {rows}")
    require([row["value"] for row in rows] == [1.0, 1.0, 9.0], "the first answer stays")


def check_impressions_are_kept_once(open_again: Opener) -> None:
    """Requests, assignments and exposures are idempotent by request; a new request beside a retry is kept."""
    store = open_again()
    store.append(**impression_rows(["r1", "r2"]))
    done = store.append(**impression_rows(["r2", "r3"]))
    counts = {name: count(store, name) for name in ("requests", "assignments", "exposures")}
    twice = {name: pa.concat_tables([rows, rows]) for name, rows in impression_rows(["r4"]).items()}
    store.append(**twice)
    after = {name: count(store, name) for name in counts}
    store.close()
    require(counts == {"requests": 3, "assignments": 3, "exposures": 9}, f"{counts}")
    require(dict(done.new) == {"requests": 1, "assignments": 1, "exposures": 3}, f"{done}")
    require(after == {"requests": 4, "assignments": 4, "exposures": 12}, f"{after}")


def check_values_survive(open_again: Opener) -> None:
    """Lists, bytes, missing values and text with quotes come back as they went in."""
    store = open_again()
    rows = impression_rows(["it's \u00e9"])
    store.append(**rows)
    store.close()
    store = open_again()
    request = store.arrow("SELECT request_id, tasks, weights, candidates, degraded FROM requests").to_pylist()[0]
    scores = store.arrow("SELECT scores FROM exposures").to_pylist()[0]["scores"]
    store.close()
    expected = ["it's \u00e9", ["click", "like"], [0.5, 1.5], b"\x00\x01", None]
    require(list(request.values()) == expected, f"{request}")
    require(scores == [0.25, 0.5], f"{scores}")


def check_bad_rows_change_nothing(open_again: Opener) -> None:
    """A missing column, a null id and a wrong type are DataErrors, and the good tables of the same call are not written."""
    store = open_again()
    good = impression_rows(["r1"])
    wrong = [
        feedback_rows(["a"]).drop_columns(["task"]),
        feedback_rows(["a"]).set_column(0, "event_id", pa.array([None], pa.string())),
        feedback_rows(["a"]).set_column(4, "value", pa.array(["much"])),
        feedback_rows(["a"]).append_column("extra", pa.array([1])),
    ]
    for rows in wrong:
        try:
            store.append(**good, feedback=rows)
        except DataError as error:
            require("\n" not in str(error), "one line")
        else:
            require(False, f"accepted {rows.schema}")
    left = {name: count(store, name) for name in ("requests", "assignments", "exposures", "feedback")}
    store.close()
    require(not any(left.values()), f"something was written: {left}")


def check_history_and_losses(open_again: Opener) -> None:
    """Plans come back oldest first with who and when; losses add up by bucket."""
    store = open_again()
    store.record_plan(2, '{"version": 2}', who="ann", time_ms=20, note="ramp to 10 %")
    store.record_plan(1, '{"version": 1}', who="bob", time_ms=10)
    store.record_loss("exposures", "searched/b", 3, time_ms=1)
    store.record_loss("exposures", "searched/b", 4, time_ms=2)
    plans, losses = store.plans(), store.losses()
    store.close()
    require([(p["version"], p["who"], p["note"]) for p in plans] == [(1, "bob", ""), (2, "ann", "ramp to 10 %")], f"{plans}")
    require(losses == {"searched/b": 7}, f"{losses}")


def check_retired_rows_are_exported(open_again: Opener, folder: Path) -> None:
    """Old rows leave the store and are in the export; new ones stay; doing it again neither loses nor doubles anything."""
    store = open_again()
    store.append(**impression_rows([f"r{i}" for i in range(10)]), feedback=feedback_rows(["a", "b", "c"]))
    moved = store.retire(4, folder)
    again = store.retire(4, folder)
    left = count(store, "requests"), count(store, "exposures"), count(store, "feedback")
    store.close()
    require(moved == {"feedback": 0, "exposures": 12, "assignments": 4, "requests": 4}, f"{moved}")
    require(not any(again.values()), f"{again}")
    require(left == (6, 18, 3), f"{left}")
    exported = sum(pq.read_table(path).num_rows for path in folder.glob("*/requests.parquet"))
    require(exported == 4, f"{exported} exported requests")


STORE_CHECKS: Sequence[Callable[[Opener], None]] = (
    check_feedback_is_kept_once,
    check_impressions_are_kept_once,
    check_values_survive,
    check_bad_rows_change_nothing,
    check_history_and_losses,
)


def check_metric_is_antisymmetric(metric: Metric, arms: tuple[Arm, Arm]) -> None:
    """Swapping the buckets changes the sign of the difference and mirrors its interval."""
    there, back = metric.analyze(*arms), metric.analyze(*arms[::-1])
    close(there.diff, -back.diff, "difference")
    close(there.diff_low, -back.diff_high, "bounds")
    close(there.p_value, back.p_value, "p-value")


def check_metric_holds_its_interval_together(metric: Metric, arms: tuple[Arm, Arm]) -> None:
    """The interval surrounds the estimate, and leaves 0 out exactly when p is under alpha."""
    effect = metric.analyze(*arms)
    require(effect.diff_low <= effect.diff <= effect.diff_high, f"{effect}")
    require((effect.p_value < 0.05) == (effect.diff_low > 0 or effect.diff_high < 0), f"p and interval disagree: {effect}")


def check_metric_says_when_it_cannot(metric: Metric, arms: tuple[Arm, Arm]) -> None:
    """One unit, or units that are all alike, give NaN with a status: never p = 1 or an interval of width 0."""
    alone = tuple(Arm({name: column[:1] for name, column in arm.columns.items()}) for arm in arms)
    alike = tuple(Arm({name: np.ones_like(column) for name, column in arm.columns.items()}) for arm in arms)
    for a, b in (alone, alike):
        effect: Effect = metric.analyze(a, b)
        require(bool(np.isnan([effect.diff, effect.diff_low, effect.diff_high, effect.p_value]).all()), f"{effect}")
        require(effect.status != "ok", "a status says why")


def check_metric_ignores_the_order_of_units(metric: Metric, arms: tuple[Arm, Arm]) -> None:
    """Units may come in any order."""
    turned = tuple(Arm({name: column[::-1].copy() for name, column in arm.columns.items()}) for arm in arms)
    close(metric.analyze(*arms).diff_low, metric.analyze(turned[0], turned[1]).diff_low, "lower bound")


METRIC_CHECKS: Sequence[MetricCheck] = (
    check_metric_is_antisymmetric,
    check_metric_holds_its_interval_together,
    check_metric_says_when_it_cannot,
    check_metric_ignores_the_order_of_units,
)


def close(a: float, b: float, what: str) -> None:
    """Require two numbers to agree to nine digits."""
    require(bool(np.isclose(a, b, rtol=1e-9, atol=1e-12)), f"{what}: {a} and {b} differ")


def example_arms(seed: int = 0, n: int = 400, columns: Mapping[str, float] | None = None) -> tuple[Arm, Arm]:
    """Two buckets of units with counts that depend on each unit's own rate."""
    rng = np.random.default_rng(seed)
    means = columns or {"sum_click": 3.0, "sum_like": 0.8, "sum_exposures": 12.0}

    def arm(lift: float) -> Arm:
        rate = rng.gamma(4.0, 0.25, n)
        made: dict[str, Floats] = {}
        for name, mean in means.items():
            made[name] = rng.poisson(mean * rate * lift).astype(float)
            made[f"pre_{name}"] = rng.poisson(mean * rate).astype(float)
        made["any_like"] = (made["sum_like"] > 0).astype(float)
        made["pre_any_like"] = (made["pre_sum_like"] > 0).astype(float)
        return Arm(made)

    return arm(1.0), arm(1.2)
