"""Two files: report.json and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.artefacts import json_bytes
from ranker.report.page import page


def write(facts: Mapping[str, Any], folder: str | Path) -> Path:
    """Write both below `folder`; returns the page's path."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / "report.json").write_bytes(json_bytes(dict(facts)))
    (target / "report.html").write_text(page(facts), encoding="utf-8")
    return target / "report.html"
