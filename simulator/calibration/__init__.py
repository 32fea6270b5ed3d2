"""Calibration: fit the impressions of a real log, draw simulated ones, and judge them on later days."""

from simulator.calibration.fit import fit
from simulator.calibration.model import LogModel
from simulator.calibration.sample import sample
from simulator.calibration.source import read_log
from simulator.calibration.verdict import Check, compare, tally

__all__ = ["Check", "LogModel", "compare", "fit", "read_log", "sample", "tally"]
