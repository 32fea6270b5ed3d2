"""What a trained ranker looks like inside: one JSON value, and one HTML page that needs no network."""

from ranker.report.facts import facts, plain
from ranker.report.write import write

__all__ = ["facts", "plain", "write"]
