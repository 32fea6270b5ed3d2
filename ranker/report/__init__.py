"""What a trained ranker looks like inside: one JSON value, and one HTML page that needs no network."""

from ranker.report.facts import calibration_curves, facts, plain
from ranker.report.write import write, write_evaluation

__all__ = ["calibration_curves", "facts", "plain", "write", "write_evaluation"]
