"""The readout agrees with a computation by pandas, blocks what cannot be trusted and finds what is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from core.errors import ConfigError
from experiment.plan import Plan
from experiment.readout import readout
from experiment.report import table
from experiment.store import EventStore

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
