"""Settings: every preset loads, every wrong value has one clear error."""

from typing import Any

import pytest

from core.errors import ConfigError
from simulator.settings import Head, WorldSettings, load_settings, preset_names

PRESETS = ["clickbait", "cold_start", "default", "drift", "duration_bias", "kuairand", "scarce_feedback", "two_scenarios"]


def test_the_presets_are_these() -> None:
    assert preset_names() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_and_names_itself(name: str) -> None:
    assert load_settings(name).preset == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"click_rate": -0.1}, "click_rate -0.1 must lie strictly between 0 and 1"),
        ({"click_rate": float("nan")}, "must be a finite number"),
        ({"page_size": 101}, "page_size 101 is larger than n_candidates 100"),
        ({"n_candidates": 20_000}, "larger than n_items"),
        ({"n_users": 0}, "at least 1"),
        ({"n_users": 1.5}, "whole number"),
        ({"patience_spread": -1.0}, "must not be negative"),
        ({"return_days": 0.0}, "must be positive"),
        ({"satisfaction_keep": 1.0}, r"must lie in \[0, 1\)"),
        ({"clickbait_share": 1.2}, "between 0 and 1"),
        ({"heads": {"like": {"rate": 2.0}}}, "heads.like.rate 2.0"),
        ({"heads": {"like": {"speed": 2.0}}}, "fields among"),
        ({"heads": {"click": {"rate": 0.1}}}, "not unique"),
        ({"ranker": {"like": {"auc": 0.3}}}, "auc 0.3"),
        ({"reward": {"clap": 1.0}}, "unknown behaviour 'clap'"),
        ({"scenarios": {}}, "at least one cohort and one scenario"),
        ({"scenarios": {"a": {"share": -1.0}}}, "shares"),
        ({"colour": "red"}, "unknown setting 'colour'"),
        ({"need": 3}, "must be a mapping"),
    ],
)
def test_a_wrong_setting_has_one_clear_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings("default", **change)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="presets are clickbait"):
        load_settings("moon")


def test_settings_survive_json() -> None:
    from simulator.settings import from_values

    settings = load_settings("two_scenarios")
    assert from_values(settings.to_json()) == settings


def test_nested_settings_merge_by_key() -> None:
    settings = load_settings("default", heads={"like": {"rate": 0.5}})
    assert settings.heads["like"].rate == 0.5
    assert settings.heads["like"].spread_item == load_settings("default").heads["like"].spread_item
    assert isinstance(settings.heads["follow"], Head)
    assert isinstance(settings, WorldSettings)
    assert "purchase" not in load_settings("kuairand").heads, "null takes a head away"
