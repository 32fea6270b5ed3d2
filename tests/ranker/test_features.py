"""The feature spec refuses what cannot work, with one line that names the feature, and survives a round trip."""

from pathlib import Path

import pytest

from core.errors import ConfigError
from core.tasks import TaskSet, TaskSpec
from ranker.features import Feature, FeatureSpec

CLICK = TaskSet([TaskSpec("click"), TaskSpec("like", sample_space="liked_space")])


def test_json_round_trip_keeps_everything() -> None:
    features = [Feature("user_id", side="user", min_count=3), Feature("price_bin", column="price", bins=8), Feature("x", "dense")]
    spec = FeatureSpec(features, CLICK, scenario="tab", weight="w")
    assert FeatureSpec.from_json(spec.to_json()) == spec


def test_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("tasks: [{name: click}]\nfeatures: [{name: item_id, dim: 16}, {name: tags, kind: multi_hot}]\n")
    spec = FeatureSpec.load(path)
    assert spec["item_id"].dim == 16
    assert spec["tags"].listed


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature("click"), "the label of task 'click'"),
        (Feature("renamed", column="click"), "the label of task 'click'"),
        (Feature("liked_space"), "the label of task 'like'"),
    ],
)
def test_a_label_among_the_features_is_refused(feature: Feature, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureSpec([Feature("item_id"), feature], CLICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "text"}, "kind 'text' is not one of"),
        ({"dim": 0}, "dim 0 must be a whole number from 1"),
        ({"vocabulary": "hash"}, "needs size"),
        ({"bins": 8, "kind": "dense"}, "bins 8 goes with kind sparse"),
        ({"drop": 1.0}, "drop 1.0 must lie in"),
        ({"shares": "nothing"}, "no feature with ids"),
    ],
)
def test_a_wrong_field_is_named(settings: dict[str, object], message: str) -> None:
    row = {"name": "f", **settings}
    with pytest.raises(ConfigError, match=message):
        FeatureSpec.from_json({"tasks": [{"name": "click"}], "features": [row]})


def test_unknown_fields_twins_and_empty_specs_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown field 'dims'"):
        FeatureSpec.from_json({"tasks": [{"name": "click"}], "features": [{"name": "a", "dims": 3}]})
    with pytest.raises(ConfigError, match="declared twice"):
        FeatureSpec([Feature("a"), Feature("a")], CLICK)
    with pytest.raises(ConfigError, match="no features"):
        FeatureSpec([], CLICK)
    with pytest.raises(ConfigError, match="dim 4 must equal 8"):
        FeatureSpec([Feature("a"), Feature("b", "sequence", dim=4, shares="a")], CLICK)
