"""The page stands alone and says what it was given; nothing that cannot be computed becomes a number."""

from __future__ import annotations

import json
import math
from pathlib import Path

from fusion.policy.report import PolicyReport, Table


def test_page_and_json_hold_what_is_known(tmp_path: Path) -> None:
    returns = Table("Return a session", ["policy", "return", "share"], [["hand_set", 8.123456, 0.0], ["<b>", 9.0, math.nan]])
    weights = {"by step": {"step 00": {"w_click": 0.25}, "step 01": {"w_click": 0.5}}}
    history = [{"update": 100.0, "critic": 3.0}, {"update": 200.0, "critic": 2.0}]
    report = PolicyReport("mine", {"algorithm": "bc", "hidden": [4]}, history, [returns], weights)
    page = report.write(tmp_path).read_text()
    assert "8.123" in page
    assert "&lt;b&gt;" in page, "names are escaped"
    assert "Training: critic" in page
    assert "How the weights vary: by step" in page
    assert 'src="http' not in page, "it needs no network"
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["tables"][0]["rows"] == [["hand_set", 8.123456, 0.0], ["<b>", 9.0, None]]
    assert saved["weights"]["by step"]["step 01"] == {"w_click": 0.5}
