"""A plan is read whole or refused with every broken rule; what it says is what it does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, ScorefusionError
from experiment.plan import Plan

HALF = [{"name": "a", "weight": 0.5, "strategy": "hand_set"}, {"name": "b", "weight": 0.5, "strategy": "searched"}]


def plan_value(**experiment: Any) -> dict[str, Any]:
    return {
        "version": 2,
        "default_strategy": "hand_set",
        "attributes": {"country": "text"},
        "metrics": [{"name": "likes", "kind": "mean", "task": "like"}],
        "layers": [{"name": "fusion", "experiments": [{"name": "e", "buckets": HALF, **experiment}]}],
    }


def test_a_sound_plan_keeps_its_values() -> None:
    value = plan_value(range=[0.1, 0.6], coverage=0.4, target="country == 'DE'", analysis={"guardrails": ["likes"]})
    plan = Plan.from_value(value, strategies=["hand_set", "searched"])
    experiment = plan.experiment("e")
    assert (experiment.low, experiment.high, experiment.coverage, experiment.control) == (0.1, 0.6, 0.4, "a")
    assert plan.strategies == ("hand_set", "searched")
    assert experiment.analysis.guardrails[0].metric == "likes"
    assert Plan.from_yaml(yaml.safe_dump(value)).fingerprint == plan.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buckets": [{"name": "a", "weight": 0.7}, {"name": "b", "weight": 0.6}]}, "bucket weights sum to 1.3, over 1"),
        ({"buckets": [{"name": "a", "weight": 0.4}, {"name": "b", "weight": 0.1}]}, "sum to 0.5, under 1"),
        ({"buckets": [{"name": "a", "weight": 0.5}, {"name": "a", "weight": 0.5}]}, "bucket 'a' is declared twice"),
        ({"buckets": []}, "has no buckets"),
        ({"buckets": [{"name": "a", "weight": "half"}]}, "weight 'half' must be a number"),
        (
            {"buckets": [{"name": "a", "weight": 1.0, "strategy": "nope"}]},
            "unknown strategy 'nope'; strategies are hand_set, searched",
        ),
        ({"range": [0.5, 0.5]}, "is empty"),
        ({"range": [0.5, 1.5]}, "must be a number from 0 to 1"),
        ({"coverage": 2}, "coverage 2 must be a number"),
        ({"target": "land == 'DE'"}, "unknown attribute 'land'"),
        ({"force": {"c": ["u1"]}}, "force names bucket 'c'"),
        ({"force": {"a": ["u1"], "b": ["u1"]}}, "unit 'u1' is forced into 'a' and 'b'"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"unit": "switchback"}, "goes with a `switchback` section"),
        ({"analysis": {"primary": "nope"}}, "unknown metric 'nope'; metrics are likes"),
        ({"analysis": {"guardrails": [{"metric": "likes", "margin": 3}]}}, "margin 3 must be a share"),
        ({"analysis": {"control": "c"}}, "control 'c' is not a bucket"),
    ],
)
def test_a_broken_rule_is_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Plan.from_value(plan_value(**change), strategies=["hand_set", "searched"])
    assert "\n" not in str(caught.value)


def test_every_broken_rule_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"plan has 2 problems: .*coverage.*; .*unknown attribute"):
        Plan.from_value(plan_value(coverage=-1, target="x == 1"))


def test_overlapping_ranges_are_refused() -> None:
    value = plan_value(range=[0, 0.6])
    value["layers"][0]["experiments"].append({"name": "f", "range": [0.5, 1], "buckets": HALF})
    with pytest.raises(ConfigError, match=r"experiments 'e' \[0.0, 0.6\) and 'f' \[0.5, 1.0\) overlap"):
        Plan.from_value(value)
    value["layers"][0]["experiments"][1]["range"] = [0.6, 1]
    Plan.from_value(value)


def test_strategies_belong_to_one_layer_and_need_a_default() -> None:
    value = plan_value()
    value["layers"].append({"name": "second", "experiments": [{"name": "f", "buckets": HALF}]})
    with pytest.raises(ConfigError, match="layers fusion, second all name strategies"):
        Plan.from_value(value)
    alone = plan_value()
    del alone["default_strategy"]
    with pytest.raises(ConfigError, match="no default_strategy"):
        Plan.from_value(alone)


def test_shared_seeds_are_refused() -> None:
    value = plan_value(seed="same")
    value["layers"].append(
        {"name": "ui", "experiments": [{"name": "f", "seed": "same", "buckets": [{"name": "x", "weight": 1}]}]}
    )
    with pytest.raises(ConfigError, match="hash with the same seed"):
        Plan.from_value(value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan_value()))
    assert Plan.from_yaml(path).version == Plan.from_yaml(str(path)).version == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        Plan.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is not YAML"):
        Plan.from_yaml("layers: [\n")
    with pytest.raises(ConfigError, match="is not JSON"):
        Plan.from_json("{")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "weight", "buckets", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)  # a loaded machine is no failure
@given(
    st.sampled_from(["range", "coverage", "buckets", "force", "target", "analysis", "switchback", "unit", "name", "seed"]), values
)
def test_any_value_anywhere_is_read_or_a_config_error(key: str, value: Any) -> None:
    for whole in (plan_value(**{key: value}), {**plan_value(), key: value}):
        with contextlib.suppress(ScorefusionError):  # any other error fails
            Plan.from_value(whole)
