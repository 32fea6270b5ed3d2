"""Other looks at the same units: by segment, by days since first exposure, and by day of the calendar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from core.arrays import Bools
from core.errors import DataError
from experiment.effects import Effect
from experiment.hashing import keys64
from experiment.metrics import Metric
from experiment.multiplicity import holm
from experiment.plan_parts import Experiment
from experiment.store.interface import EventStore
from experiment.units import UnitTable, read_units

MANY_SEGMENTS = 10


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One metric's effect in one part of the units or of time. `p_adjusted` is Holm's over all rows of the view."""

    part: str
    metric: str
    bucket: str
    n_control: int
    n_treatment: int
    effect: Effect
    p_adjusted: float = float("nan")


@dataclass(frozen=True, slots=True)
class View:
    """Rows and what to keep in mind when reading them."""

    rows: tuple[ViewRow, ...]
    warnings: tuple[str, ...] = ()


def by_segment(units: UnitTable, metrics: Sequence[Metric], segments: Mapping[str, str] | None = None) -> View:
    """Effects inside each segment.

    Args:
        segments: Segment of every unit by its id, known before the experiment; without it the table's own (`read_units` with
            `segment="scenario"`). Units without a segment are left out.
    """
    if segments is not None:
        known = dict(zip(keys64(pa.array(list(segments), pa.string())).tolist(), segments.values(), strict=True))
        named = np.array([known.get(key, "") for key in units.unit_key.tolist()], dtype=object)
    elif units.segment is not None:
        named = np.asarray(units.segment, dtype=object)
    else:
        raise DataError("no segments; give one per unit, or read the units with segment='scenario'")
    parts = {name: np.asarray(named == name, bool) for name in sorted(set(named.tolist()) - {""})}
    warnings = ["segments were not what the experiment was planned for: a surprise in one of them is a question, not an answer"]
    if len(parts) > MANY_SEGMENTS:
        warnings.append(f"{len(parts)} segments: one in twenty of them differs by chance alone")
    return View(_rows(units, metrics, parts), tuple(warnings))


def novelty(
    store: EventStore,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    days: Sequence[int] = (1, 3, 7, 14),
    now_ms: int | None = None,
) -> View:
    """Effects by day since first exposure: does the difference fade (novelty) or grow (learning)?

    Part `day a-b` counts what units did from day a to day b of their own time, over units that have been there that long.
    """
    rows: list[ViewRow] = []
    start = 0
    for end in days:
        analysis = replace(experiment.analysis, burn_in_days=float(start), window_days=float(end))
        units = read_units(store, replace(experiment, analysis=analysis), metrics, now_ms=now_ms)
        rows += _rows(
            units, metrics, {f"day {start + 1}-{end}" if end > start + 1 else f"day {end}": np.ones(len(units.bucket), bool)}
        )
        start = end
    warnings = ("later days hold only units that came early; compare their rows with the first day's before calling it a trend",)
    return View(tuple(rows), warnings)


def _rows(units: UnitTable, metrics: Sequence[Metric], parts: Mapping[str, Bools]) -> tuple[ViewRow, ...]:
    control = units.experiment.control
    rows: list[ViewRow] = []
    for part, chosen in parts.items():
        baseline = units.arm(control, chosen)
        for bucket in units.buckets:
            if bucket == control:
                continue
            arm = units.arm(bucket, chosen)
            for metric in metrics:
                effect = metric.analyze(baseline, arm, alpha=units.experiment.analysis.alpha)
                rows.append(ViewRow(part, metric.name, bucket, baseline.n, arm.n, effect))
    known = [i for i, row in enumerate(rows) if not np.isnan(row.effect.p_value)]
    adjusted = holm(np.array([rows[i].effect.p_value for i in known]))
    for i, p_value in zip(known, adjusted.tolist(), strict=True):
        rows[i] = replace(rows[i], p_adjusted=p_value)
    return tuple(rows)
