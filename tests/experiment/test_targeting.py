"""Targets say what they mean, for one unit as for many, and nothing else gets in."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, ScorefusionError
from experiment.targeting import AttributeKind, Target

KINDS: dict[str, AttributeKind] = {"country": "text", "age": "number", "new": "flag"}
TARGETS = (
    "country == 'DE'",
    "country != 'DE'",
    "country in ['DE', 'FR'] and age > 18",
    "country not in ['DE'] or new",
    "not (age <= 30 and new == True)",
    "age >= 18 and age < 65 or country == 'US' and not new",
    "age in [18, 30]",
)
people = st.fixed_dictionaries(
    {},
    optional={
        "country": st.sampled_from(["DE", "FR", "US", ""]) | st.none(),
        "age": st.sampled_from([17, 18, 30, 64.5, 65]),
        "new": st.booleans(),
    },
)


@pytest.mark.parametrize("text", TARGETS)
@settings(deadline=None)  # a loaded machine is no failure
@given(rows=st.lists(people, min_size=1, max_size=20))
def test_many_agree_with_one(text: str, rows: list[dict[str, object]]) -> None:
    target = Target.parse(text, KINDS)
    columns = {
        "country": np.array([row.get("country") for row in rows], dtype=object),
        "age": np.array([row.get("age", np.nan) for row in rows], float),
        "new": np.array([row.get("new") for row in rows], dtype=object),
    }
    assert target.matches_many(columns, len(rows)).tolist() == [target.matches(row) for row in rows]


def test_an_absent_attribute_is_unknown_and_unknown_is_not_targeted() -> None:
    assert not Target.parse("country == 'DE'", KINDS).matches({})
    assert not Target.parse("not country == 'DE'", KINDS).matches({})
    assert Target.parse("country == 'DE' or age > 3", KINDS).matches({"age": 4})
    assert not Target.parse("country == 'DE' or age > 3", KINDS).matches({"age": 2})
    assert not Target.parse("country != 'DE'", KINDS).matches_many({}, 2).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", "is not allowed"),
        ("country == age", "is not a plain value"),
        ("land == 'DE'", "unknown attribute 'land'; declared attributes are age, country, new"),
        ("age > 'x'", "'age' is a number, 'x' is not"),
        ("age > True", "is a number"),
        ("country in 'DE'", "`in` needs a list"),
        ("country ==", "is not an expression"),
        ("new > True", "is a flag"),
        ("1 < age < 3", "is not allowed"),
        ("age", "is not allowed"),
        ("country == 'DE' and " * 200 + "new", "split the experiment"),
    ],
)
def test_a_wrong_target_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Target.parse(text, KINDS)
    assert "\n" not in str(caught.value)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text(max_size=60))
def test_any_text_is_a_target_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ScorefusionError):  # any other error fails
        Target.parse(text, KINDS).matches({"country": "DE", "age": 3, "new": True})
