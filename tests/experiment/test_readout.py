"""The readout agrees with a computation by pandas, blocks what cannot be trusted and finds what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core.errors import ConfigError
from experiment.multiplicity import holm
from experiment.plan import Plan
from experiment.plan_parts import Analysis, Bucket, Experiment, Switchback
from experiment.readout import analyze_units, readout
from experiment.report import table
from experiment.store import EventStore
from experiment.units import UnitTable, read_units
from experiment.views import by_segment, novelty

World = Callable[..., dict[str, pa.Table]]


def units_by_pandas(tables: dict[str, pa.Table], plan: Plan, pre_days: float = 7) -> pd.DataFrame:
    """One row a user, worked out in another way: row by row joins in memory."""
    frames = {name: rows.to_pandas() for name, rows in tables.items()}
    first = frames["assignments"].groupby("unit").agg(first=("time_ms", "min"), bucket=("bucket", "first"))
    asked = frames["requests"].merge(first, left_on="user_id", right_index=True)
    asked["post"] = asked.time_ms >= asked["first"]
    asked["pre"] = ~asked.post & (asked.time_ms >= asked["first"] - pre_days * 86_400_000)
    units: pd.DataFrame = first.copy()
    shown = frames["exposures"].merge(asked[["request_id", "post", "pre"]], on="request_id")
    answered = frames["feedback"].merge(asked[["request_id", "user_id", "post", "pre"]], on="request_id")
    for when in ("post", "pre"):
        units[f"{when}_exposures"] = shown[shown[when]].groupby("user_id").size().reindex(units.index).fillna(0)
        for task in ("click", "like"):
            rows = answered[answered[when] & (answered.task == task)]
            units[f"{when}_{task}"] = rows.groupby("user_id").value.sum().reindex(units.index).fillna(0)
    return units


def test_readout_equals_pandas(store: EventStore, plan: Plan, world: World) -> None:
    tables = world(plan, lift=0.3)
    store.append(**tables)
    report = readout(store, plan.experiment("searched"), plan.metrics)
    units = units_by_pandas(tables, plan)
    a, b = units[units.bucket == "hand_set"], units[units.bucket == "searched"]
    assert report.counts == {"hand_set": len(a), "searched": len(b)}

    likes = report.row("likes_per_user")
    assert likes.control == pytest.approx(a.post_like.mean(), abs=1e-9)
    assert likes.diff == pytest.approx(b.post_like.mean() - a.post_like.mean(), abs=1e-9)
    assert likes.se == pytest.approx(np.sqrt(a.post_like.var() / len(a) + b.post_like.var() / len(b)), abs=1e-9)
    assert report.row("likers").treatment == pytest.approx((b.post_like > 0).mean(), abs=1e-9)

    def ratio(rows: pd.DataFrame) -> tuple[float, float]:
        r = rows.post_click.sum() / rows.post_exposures.sum()
        linear = (rows.post_click - r * rows.post_exposures) / rows.post_exposures.mean()
        return r, linear.var() / len(rows)

    (ra, va), (rb, vb) = ratio(a), ratio(b)
    ctr = report.row("ctr")
    assert ctr.control == pytest.approx(ra, abs=1e-9)
    assert ctr.diff == pytest.approx(rb - ra, abs=1e-9)
    assert ctr.se == pytest.approx(np.sqrt(va + vb), abs=1e-9)

    slope_rows = units.post_like - units.post_like.mean()
    slope = (slope_rows * (units.pre_like - units.pre_like.mean())).sum() / ((units.pre_like - units.pre_like.mean()) ** 2).sum()
    adjusted_a, adjusted_b = a.post_like - slope * a.pre_like, b.post_like - slope * b.pre_like
    cuped = report.row("likes_cuped")
    assert cuped.diff == pytest.approx(adjusted_b.mean() - adjusted_a.mean(), abs=1e-9)
    assert cuped.se == pytest.approx(np.sqrt(adjusted_a.var() / len(a) + adjusted_b.var() / len(b)), abs=1e-9)
    assert cuped.se < likes.se


def test_a_large_effect_ships_and_its_reverse_stops(store: EventStore, plan: Plan, world: World) -> None:
    store.append(**world(plan, n_users=3000, lift=0.5))
    experiment = plan.experiment("searched")
    assert readout(store, experiment, plan.metrics).verdict.decision == "ship"
    reverse = readout(store, experiment, plan.metrics, control="searched")
    assert reverse.verdict.decision == "stop"
    text = table(reverse)
    assert "likes_per_user" in text
    assert "stop" in text


def test_no_events_are_nan_with_a_status(store: EventStore, plan: Plan) -> None:
    report = readout(store, plan.experiment("searched"), plan.metrics)
    assert {row.status for row in report.rows} == {"too_few_units"}
    assert all(np.isnan(row.p_value) and np.isnan(row.diff) for row in report.rows)
    assert report.verdict.decision == "wait"
    assert report.to_json()["rows"][0]["diff"] is None


def test_unknown_bucket_is_one_clear_error(store: EventStore, plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"no bucket 'nope'; buckets are hand_set, searched"):
        readout(store, plan.experiment("searched"), plan.metrics, control="nope")


def tables_of(rows: Sequence[tuple[str, str, int, str | None]]) -> dict[str, pa.Table]:
    """Requests (id, unit, time, bucket) of one experiment, one exposure and one like each."""
    request, unit, time_ms, bucket = map(list, zip(*rows, strict=True))
    n = len(rows)
    assigned = [b is not None for b in bucket]
    assignments = pa.table(
        {
            "request_id": request,
            "time_ms": time_ms,
            "layer": ["fusion"] * n,
            "experiment": ["searched"] * n,
            "bucket": bucket,
            "unit": unit,
            "forced": [False] * n,
        }
    ).filter(pa.array(assigned))
    feedback = {"event_id": request, "request_id": request, "item_id": [1] * n, "task": ["like"] * n, "value": [1.0] * n}
    return {
        "requests": pa.table({"request_id": request, "time_ms": time_ms, "user_id": unit}),
        "assignments": assignments,
        "exposures": pa.table({"request_id": request, "time_ms": time_ms, "user_id": unit, "item_id": [1] * n}),
        "feedback": pa.table({**feedback, "time_ms": time_ms}),
    }


DAY = 86_400_000


def experiment_with(plan: Plan, **analysis: object) -> Experiment:
    base = Analysis(metrics=("likes_per_user",), primary="likes_per_user")
    return replace(plan.experiment("searched"), analysis=replace(base, **analysis))  # type: ignore[arg-type]  # fields by name


def test_only_events_after_the_first_exposure_count(store: EventStore, plan: Plan) -> None:
    """u1 likes once before and twice after, the second time without an assignment: both of those count."""
    rows = [("a", "u1", 5 * DAY, None), ("b", "u1", 10 * DAY, "hand_set"), ("c", "u1", 11 * DAY, None)]
    rows += [("d", "u2", 10 * DAY, "searched"), ("e", "u3", 12 * DAY, "hand_set")]
    store.append(**tables_of(rows))
    units = read_units(store, experiment_with(plan, pre_days=7), [plan.metrics["likes_cuped"]])
    arm = units.arm("hand_set")
    assert sorted(zip(arm.column("sum_like").tolist(), arm.column("pre_sum_like").tolist(), strict=True)) == [(1, 0), (2, 1)]


def test_windows_wait_and_burn_in_is_skipped(store: EventStore, plan: Plan) -> None:
    rows = [(f"r{day}", "u1", day * DAY + 1, "hand_set") for day in range(10, 16)] + [("late", "u2", 14 * DAY, "searched")]
    store.append(**tables_of(rows))
    metric = [plan.metrics["likes_per_user"]]
    units = read_units(store, experiment_with(plan, window_days=3, burn_in_days=1), metric, now_ms=16 * DAY)
    assert units.n_immature == 1
    assert units.arm("hand_set").column("sum_like").tolist() == [2]
    assert units.assigned == {"hand_set": 1, "searched": 1}


def test_units_in_two_buckets_and_forced_ones_are_left_out_and_counted(store: EventStore, plan: Plan) -> None:
    rows = [
        ("a", "u1", DAY, "hand_set"),
        ("b", "u1", 2 * DAY, "searched"),
        ("c", "u2", DAY, "hand_set"),
        ("d", "u3", DAY, "searched"),
    ]
    tables = tables_of(rows)
    forced = pa.array([False, False, False, True])
    tables["assignments"] = tables["assignments"].set_column(6, "forced", forced)
    store.append(**tables)
    report = readout(store, experiment_with(plan), plan.metrics)
    assert (report.counts, report.n_multiple, report.n_forced) == ({"hand_set": 1, "searched": 0}, 1, 1)
    assert "several buckets" in " ".join(report.warnings)


def test_a_broken_split_and_lost_exposures_block_the_verdict(store: EventStore, plan: Plan, world: World) -> None:
    tables = world(plan, n_users=2000, lift=0.6)
    rows = tables["assignments"].to_pandas()
    kept = rows[(rows.bucket != "searched") | (rows.unit.str[-1] < "7")]
    store.append(**{**tables, "assignments": pa.Table.from_pandas(kept, preserve_index=False)})
    report = readout(store, plan.experiment("searched"), plan.metrics)
    assert report.srm_p < 0.001
    assert report.verdict.decision == "wait"
    assert "sample-ratio mismatch" in report.verdict.reason


def test_lost_exposures_block_the_verdict(store: EventStore, plan: Plan, world: World) -> None:
    store.append(**world(plan, n_users=2000, lift=0.6))
    assert readout(store, plan.experiment("searched"), plan.metrics).verdict.decision == "ship"
    store.record_loss("exposures", "searched/searched", 100, time_ms=0)
    assert "were lost" in readout(store, plan.experiment("searched"), plan.metrics).verdict.reason


def test_sequential_is_wider_and_waits_for_500_units(store: EventStore, plan: Plan, world: World) -> None:
    store.append(**world(plan, n_users=900, lift=0.2))
    fixed = readout(store, experiment_with(plan), plan.metrics)
    early = readout(store, experiment_with(plan, sequential=True, window_days=30), plan.metrics)
    assert early.row("likes_per_user").status in ("too_early", "too_few_units")
    store.append(**{name: _renamed(rows) for name, rows in world(plan, n_users=2600, lift=0.2, seed=1).items()})
    always = readout(store, experiment_with(plan, sequential=True), plan.metrics).row("likes_per_user")
    again = readout(store, experiment_with(plan), plan.metrics).row("likes_per_user")
    assert always.status == again.status == "ok"
    assert always.diff_low < again.diff_low < again.diff_high < always.diff_high
    assert fixed.counts["hand_set"] < 500


def _renamed(rows: pa.Table) -> pa.Table:
    for index, name in enumerate(rows.column_names):
        if name in ("request_id", "event_id"):
            rows = rows.set_column(index, name, pa.array(["x" + value for value in rows.column(name).to_pylist()]))
    return rows


def test_three_arms_correct_the_primary_for_the_number_of_arms(plan: Plan) -> None:
    rng = np.random.default_rng(0)
    buckets = tuple(Bucket(name, 1 / 3) for name in ("a", "b", "c"))
    experiment = replace(experiment_with(plan), buckets=buckets)
    n = 900
    like = rng.poisson(1.0, n).astype(float)
    units = UnitTable(
        experiment,
        ("a", "b", "c"),
        np.arange(n),
        np.arange(n) % 3,
        np.arange(n) * DAY // 100,
        {"sum_like": like + (np.arange(n) % 3 == 2) * 0.2},
        assigned={"a": 300, "b": 300, "c": 300},
    )
    report = analyze_units(units, [plan.metrics["likes_per_user"]])
    p = [report.row("likes_per_user", bucket).p_value for bucket in ("b", "c")]
    adjusted = [report.row("likes_per_user", bucket).p_adjusted for bucket in ("b", "c")]
    assert adjusted == pytest.approx(holm(np.array(p)).tolist())
    assert set(report.verdicts) == {"b", "c"}
    assert report.srm_p == 1.0


def test_segments_and_novelty(store: EventStore, plan: Plan, world: World) -> None:
    tables = world(plan, n_users=600, lift=0.5)
    feed = pa.array(["feed"] * tables["requests"].num_rows)
    store.append(**{**tables, "requests": tables["requests"].append_column("scenario", feed)})
    experiment = plan.experiment("searched")
    metric = [plan.metrics["likes_per_user"]]
    units = read_units(store, experiment, metric)
    view = by_segment(units, metric, {f"u{i}": "even" if i % 2 == 0 else "odd" for i in range(600)})
    assert [row.part for row in view.rows] == ["even", "odd"]
    assert sum(row.n_control for row in view.rows) == units.counts()["hand_set"]
    assert all(row.p_adjusted >= row.effect.p_value for row in view.rows)
    assert "not what the experiment was planned for" in view.warnings[0]
    by_scenario = by_segment(read_units(store, experiment, metric, segment="scenario"), metric)
    assert [row.part for row in by_scenario.rows] == ["feed"]
    faded = novelty(store, experiment, metric, days=(1, 2))
    assert [row.part for row in faded.rows] == ["day 1", "day 2"]
    assert faded.rows[0].effect.control > faded.rows[1].effect.control


def test_switchback_units_are_windows(store: EventStore, plan: Plan) -> None:
    hour = 3_600_000
    rows = [(f"r{i}", f"@{i // 4}", i * hour // 4, "hand_set" if (i // 4) % 2 else "searched") for i in range(40)]
    tables = tables_of(rows)
    tables["requests"] = tables["requests"].set_column(2, "user_id", pa.array([f"u{i % 3}" for i in range(40)]))
    store.append(**tables)
    experiment = replace(experiment_with(plan), unit="switchback", switchback=Switchback(60, burn_in_minutes=15))
    units = read_units(store, experiment, [plan.metrics["likes_per_user"], plan.metrics["ctr"]])
    assert units.counts() == {"hand_set": 5, "searched": 5}
    assert units.arm("searched").column("sum_like").tolist() == [3.0] * 5  # the first of four requests is burn-in
    assert units.arm("searched").column("sum_exposures").tolist() == [3.0] * 5
