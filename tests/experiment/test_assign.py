"""Assignment is stable, independent between layers, exclusive inside one, and the same for one unit as for many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.arrays import AnyArray
from core.errors import DataError
from experiment.assign import Assigned
from experiment.plan import Plan

N = 20_000
USERS = np.arange(N)


def experiment(name: str, **fields: Any) -> dict[str, Any]:
    buckets = [{"name": f"{name}-a", "weight": 0.5}, {"name": f"{name}-b", "weight": 0.5}]
    return {"name": name, "buckets": buckets, **fields}


def make(*layers: list[dict[str, Any]], **fields: Any) -> Plan:
    named = [{"name": f"layer{i}", "experiments": experiments} for i, experiments in enumerate(layers)]
    return Plan.from_value({"layers": named, **fields})


def shares(assigned: Assigned) -> dict[str, float]:
    names, counts = np.unique(assigned.bucket_names().astype(str), return_counts=True)
    return dict(zip(names.tolist(), (counts / N).tolist(), strict=True))


def test_one_unit_gets_what_many_get() -> None:
    plan = make(
        [experiment("e", range=[0, 0.5], coverage=0.5, target="country == 'DE'"), experiment("f", range=[0.5, 1], unit="device")],
        [experiment("g", force={"g-a": ["3", "4"]})],
        [experiment("h", unit="switchback", switchback={"window_minutes": 30, "region": "country"})],
        attributes={"country": "text"},
        holdout={"share": 0.1},
    )
    n = 500
    country = np.array(["DE", "FR"], object)[USERS[:n] % 2]
    device = np.array([f"d{i % 50}" for i in range(n)], object)
    time_ms = USERS[:n] * 600_000
    many = plan.assign_many({"user": USERS[:n], "device": device}, {"country": country}, time_ms=time_ms)
    for i in range(n):
        one = plan.assign({"user": str(i), "device": device[i]}, {"country": country[i]}, time_ms=int(time_ms[i]))
        for layer, assigned in many.items():
            found = one.get(layer)
            expected = (found.experiment, found.bucket, found.forced) if found else (None, None, False)
            assert (assigned.experiment_names()[i], assigned.bucket_names()[i], bool(assigned.forced[i])) == expected


def test_layers_are_independent_and_shares_are_as_planned() -> None:
    plan = make([experiment("e")], [experiment("f")], [experiment("g", range=[0, 0.5], coverage=0.4)])
    assigned = plan.assign_many(USERS)
    table = np.histogram2d(assigned["layer0"].bucket, assigned["layer1"].bucket, bins=2)[0]
    np.testing.assert_allclose(table / N, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / N))
    assert shares(assigned["layer2"])["g-a"] == pytest.approx(0.1, abs=0.01)
    assert shares(assigned["layer2"])["None"] == pytest.approx(0.8, abs=0.012)


def test_ranges_exclude_one_another_and_a_new_experiment_moves_nobody() -> None:
    before = make([experiment("e", range=[0, 0.3])]).assign_many(USERS)["layer0"]
    after = make([experiment("e", range=[0, 0.3]), experiment("f", range=[0.3, 1])]).assign_many(USERS)["layer0"]
    inside = before.bucket >= 0
    assert (before.bucket_names()[inside] == after.bucket_names()[inside]).all()
    assert set(after.experiment_names()[~inside].tolist()) == {"f"}


def test_a_ramp_never_moves_an_assigned_unit() -> None:
    last: AnyArray | None = None
    for coverage in (0.0, 0.01, 0.1, 0.35, 0.8, 1.0):
        names = make([experiment("e", coverage=coverage)]).assign_many(USERS)["layer0"].bucket_names()
        if last is not None:
            assigned = last != np.array(None)
            assert (names[assigned] == last[assigned]).all()
        assert (names != np.array(None)).mean() == pytest.approx(coverage, abs=0.015)
        last = names


def test_the_holdout_is_decided_first_and_is_an_experiment_of_its_own() -> None:
    plan = make([experiment("e")], [experiment("f")], holdout={"share": 0.2, "strategy": "old"}, default_strategy="old")
    assigned = plan.assign_many(USERS)
    held = assigned["holdout"].bucket_names() == "held_out"
    assert held.mean() == pytest.approx(0.2, abs=0.015)
    assert (assigned["layer0"].bucket[held] == -1).all()
    assert (assigned["layer1"].bucket[~held] >= 0).all()
    unit = str(USERS[held][0])
    assert set(plan.assign(unit)) == {"holdout"}
    assert plan.strategy_for(plan.assign(unit)) == "old"
    assert plan.experiment("holdout").weights == {"held_out": 0.2, "in_traffic": 0.8}


def test_forced_units_pass_every_gate_and_are_marked() -> None:
    plan = make(
        [experiment("e", coverage=0, target="country == 'XX'", force={"e-b": ["qa"]})],
        attributes={"country": "text"},
        holdout={"share": 0.999},
    )
    answer = plan.assign("qa")["layer0"]
    assert (answer.bucket, answer.forced, answer.unit) == ("e-b", True, "qa")
    assert "layer0" not in plan.assign("somebody")


def test_an_experiment_follows_its_own_unit() -> None:
    plan = make([experiment("e", unit="session")])
    seen = {plan.assign({"user": "u1", "session": f"s{i}"})["layer0"].bucket for i in range(40)}
    assert seen == {"e-a", "e-b"}
    assert plan.assign({"user": "u1"}) == {}


def test_a_switchback_holds_for_a_window_and_a_region() -> None:
    plan = make(
        [experiment("e", unit="switchback", switchback={"window_minutes": 60, "region": "city"})], attributes={"city": "text"}
    )
    hour = 3_600_000

    def at(user: str, city: str, time_ms: int) -> str:
        return plan.assign(user, {"city": city}, time_ms=time_ms)["layer0"].bucket

    assert len({at(f"u{i}", "Rome", 5 * hour + i) for i in range(50)}) == 1
    assert {at("u1", "Rome", i * hour) for i in range(30)} == {"e-a", "e-b"}
    assert [at("u1", "Rome", i * hour) for i in range(30)] != [at("u1", "Oslo", i * hour) for i in range(30)]
    with pytest.raises(DataError, match="give time_ms"):
        plan.assign_many(USERS, {"city": np.full(N, "Rome", object)})


def test_columns_of_unequal_length_are_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"unit columns have \[2, 3\] rows"):
        make([experiment("e")]).assign_many({"user": np.arange(2), "device": np.arange(3)})
