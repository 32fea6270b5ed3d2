"""Two files a report: its JSON and its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.artefacts import json_bytes, write_whole
from ranker.report.page import evaluation_page, page


def write(facts: Mapping[str, Any], folder: str | Path) -> Path:
    """report.json and report.html of a trained ranker below `folder`; returns the page's path."""
    return _both(facts, page(facts), Path(folder), "report")


def write_evaluation(facts: Mapping[str, Any], folder: str | Path) -> Path:
    """evaluation.json and evaluation.html of a judged ranker."""
    return _both(facts, evaluation_page(facts), Path(folder), "evaluation")


def _both(facts: Mapping[str, Any], text: str, folder: Path, name: str) -> Path:
    write_whole(folder / f"{name}.json", json_bytes(dict(facts)))
    return write_whole(folder / f"{name}.html", text.encode())
