"""A formula published to explore starts at its weights, stays in its ranges and logs its density; misfits are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError
from core.scores import ScoreTable
from fusion.formula import Formula
from workflow.exploring import exploring

FORMULA = Formula.parse("w_click * click + w_like * like", tasks=["click", "like"], params=["w_click", "w_like"])
WEIGHTS = {"w_click": 1.0, "w_like": 5.0}
FILE = """
state:
  - {name: step, source: request, column: step, scale: 0.1}
ranges: {w_like: [0, 20], w_click: [0, 2]}
"""
SCORES = ScoreTable(("click", "like"), np.random.default_rng(0).random((6, 2)))


def made(tmp_path: Path, text: str = FILE) -> Path:
    path = tmp_path / "explore.yaml"
    path.write_text(text)
    return path


def test_it_explores_around_the_weights(tmp_path: Path) -> None:
    policy = exploring(made(tmp_path), FORMULA, WEIGHTS)
    drawn = [policy.fuse(SCORES, {"request_id": f"r{i}", "step": 2}) for i in range(400)]
    decided = [fused.decision for fused in drawn if fused.decision is not None]
    assert len(decided) == 400
    assert all(d.baseline.tolist() == [0.0, -0.5] for d in decided)  # 1 in [0, 2] and 5 in [0, 20]
    assert {d.component for d in decided} == {"wide", "near"}
    near = np.array([d.action for d in decided if d.component == "near"])
    np.testing.assert_allclose(near.mean(0), [0.0, -0.5], atol=0.03)
    assert all(0 <= fused.weights["w_click"] <= 2 and 0 <= fused.weights["w_like"] <= 20 for fused in drawn)
    assert policy.fuse(SCORES, {"request_id": "r"}).weights == WEIGHTS  # no state: the weights as they are


def test_a_box_or_components_may_be_asked_for(tmp_path: Path) -> None:
    assert exploring(made(tmp_path, FILE + "exploration: box\n"), FORMULA, WEIGHTS).exploration is not None
    text = FILE + "exploration: {only: {share: 1.0, kind: box, half: 0.5}}\n"
    policy = exploring(made(tmp_path, text), FORMULA, WEIGHTS)
    assert policy.exploration is not None
    assert policy.exploration.box == 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("state: []\nranges: {w_click: [0, 1], w_like: [0, 9]}", "must be there"),
        ("state: [{name: a, source: user, column: a}]", "must hold state and ranges"),
        (FILE.replace("w_like: [0, 20], ", ""), "'w_like' has no range"),
        (FILE.replace("[0, 20]", "[20, 0]"), "low below high"),
        (FILE.replace("[0, 20]", "[0, 4]"), "outside its range"),
        (FILE + "exploration: wild\n", "must be mixed, box"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        exploring(made(tmp_path, text), FORMULA, WEIGHTS)
