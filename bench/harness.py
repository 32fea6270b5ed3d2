"""What every benchmark shares: its arguments, its table, fair interleaved timing, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("scorefusion", "numpy", "torch", "ray", "numba", "pyarrow", "duckdb", "scipy", "lightgbm")

Cell = str | int | float | None
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sample:
    """Repeated measurements of one contestant, in the order they were taken."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run: one run disturbed by the machine does not move it."""
        return statistics.median(self.runs)

    @property
    def low(self) -> float:
        """The smallest run."""
        return min(self.runs)

    @property
    def high(self) -> float:
        """The largest run."""
        return max(self.runs)

    def __str__(self) -> str:
        return f"{_text(self.median)} ({_text(self.low)} to {_text(self.high)}, {len(self.runs)} runs)"


class Bench:
    """One benchmark run: parse the arguments, collect figures, print, end with the JSON line.

    Args:
        name: The bench's name, as in `python -m bench.NAME`.
        figures: Names of the figures it owes. Each starts as null and stays null unless it is measured.
        argv: Command line, `sys.argv[1:]` by default.
        arguments: Adds options of its own to the parser.
        out: Where to print.
        clock: Seconds, for the total time.

    >>> import io
    >>> bench = Bench("demo", ["rps", "peer_rps"], argv=["--quick"], out=io.StringIO())
    >>> bench.figure("rps", 12.0)
    >>> bench.finish()["figures"]
    {'rps': 12.0, 'peer_rps': None}
    """

    def __init__(
        self,
        name: str,
        figures: Sequence[str] = (),
        *,
        argv: Sequence[str] | None = None,
        arguments: Callable[[argparse.ArgumentParser], object] | None = None,
        out: TextIO | None = None,
        results: Path = RESULTS,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.name = name
        self.figures: dict[str, float | None] = dict.fromkeys(figures)
        self.notes: dict[str, str] = {}
        self._tables: list[dict[str, object]] = []
        self._out = out or sys.stdout
        self._results = results
        self._clock = clock
        self._start = clock()
        parser = argparse.ArgumentParser(prog=f"python -m bench.{name}")
        parser.add_argument("--quick", action="store_true", help="smaller data, fewer seeds, the same code; about two minutes")
        parser.add_argument("--peers", action="store_true", help="run the peers of `make peers` too; else null")
        parser.add_argument("--record", action="store_true", help=f"keep the full run as bench/results/{name}.json")
        if arguments is not None:
            arguments(parser)
        self.args = parser.parse_args(argv)
        if self.args.record and self.args.quick:
            parser.error("--record keeps full runs only; drop --quick")
        self.quick: bool = self.args.quick
        self.peers: bool = self.args.peers

    def say(self, text: str) -> None:
        """Print a line and flush, so that a long run shows where it is."""
        print(text, file=self._out, flush=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = "") -> None:
        """Print a table with aligned columns, and keep it for the record."""
        texts = [list(headers), *([_text(cell) for cell in row] for row in rows)]
        width = [max(len(row[i]) for row in texts) for i in range(len(headers))]
        for i, row in enumerate(texts):
            cells = [cell.ljust(w) if j == 0 else cell.rjust(w) for j, (cell, w) in enumerate(zip(row, width, strict=True))]
            if i == 0 and title:
                self.say(f"\n{title}")
            self.say("  ".join(cells).rstrip())
            if i == 0:
                self.say("  ".join("-" * w for w in width))
        kept = [[_plain(cell) for cell in row] for row in rows]
        self._tables.append({"title": title, "headers": list(headers), "rows": kept})

    def figure(self, name: str, value: float | None) -> None:
        """Set one figure; what could not be computed (None, NaN, infinite) is null in the JSON."""
        self.figures[name] = _number(value)

    def note(self, name: str, text: str) -> None:
        """Say why a figure is null or how it is to be read; printed before the JSON line and kept in the record."""
        self.notes[name] = text

    def finish(self, *, partial: bool = False) -> dict[str, object]:
        """Print the figures' notes and the JSON line; write the record when asked. Returns what the line holds.

        Args:
            partial: The run measured some parts only: the record keeps the others as they were, with the dates of both.
        """
        for name, text in self.notes.items():
            self.say(f"note: {name}: {text}")
        payload: dict[str, object] = {
            "bench": self.name,
            "figures": self.figures,
            "machine": machine(),
            "versions": versions(),
            "seconds": round(self._clock() - self._start, 1),
        }
        if self.quick:
            payload["quick"] = True
        if self.args.record:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record = {**payload, "date": now, "notes": self.notes, "tables": self._tables}
            self._results.mkdir(parents=True, exist_ok=True)
            path = self._results / f"{self.name}.json"
            if partial and path.is_file():
                record = with_older(record, json.loads(path.read_text()))
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        self.say(json.dumps(payload, allow_nan=False))
        return payload


def with_older(record: Mapping[str, Any], older: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the figures, notes and tables that only an older one has; `measured` dates each figure.

    A table is known by its title up to the first colon.

    >>> older = {"date": "d1", "figures": {"a": 1.0, "b": 2.0}, "notes": {"b": "old"}, "tables": [{"title": "b: 3 rows"}]}
    >>> newer = {"date": "d2", "figures": {"a": 3.0, "b": None}, "notes": {}, "tables": [{"title": "a: 4 rows"}]}
    >>> with_older(newer, older)["figures"], with_older(newer, older)["measured"]
    ({'a': 3.0, 'b': 2.0}, {'a': 'd2', 'b': 'd1'})
    """
    mine, its = record["figures"], older["figures"]
    kept = {name: value for name, value in its.items() if name in mine and mine[name] is None and value is not None}
    dates = older.get("measured", {})
    measured = {name: record["date"] for name, value in mine.items() if value is not None}
    measured |= {name: dates.get(name, older["date"]) for name in kept}
    notes = {name: text for name, text in older["notes"].items() if name in kept}
    titles = {str(table["title"]).partition(":")[0] for table in record["tables"]}
    tables = [table for table in older["tables"] if str(table["title"]).partition(":")[0] not in titles]
    return {
        **record,
        "figures": {**mine, **kept},
        "measured": measured,
        "notes": {**notes, **record["notes"]},
        "tables": [*record["tables"], *tables],
    }


def interleave(contestants: Mapping[str, Callable[[], float]], *, rounds: int = 5, warmups: int = 1) -> dict[str, Sample]:
    """Measure contestants in turn, A B A B ..., so that a slow minute of the machine falls on all of them.

    Args:
        contestants: Each call runs the work once and returns its measurement (seconds, or a rate).
        rounds: Measured turns of each; at least 5 for a figure that is quoted.
        warmups: Turns whose measurement is thrown away (compilation, caches, first allocations).

    >>> order = []
    >>> samples = interleave({"a": lambda: order.append("a") or 1.0, "b": lambda: order.append("b") or 2.0}, rounds=2, warmups=0)
    >>> "".join(order), samples["b"].median
    ('abab', 2.0)
    """
    if rounds < 1:
        raise ValueError(f"rounds {rounds} must be at least 1")
    runs: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(warmups + rounds):
        for name, run in contestants.items():
            measured = run()
            if turn >= warmups:
                runs[name].append(measured)
    return {name: Sample(tuple(values)) for name, values in runs.items()}


def timed(work: Callable[[], object], *, clock: Clock = time.perf_counter) -> Callable[[], float]:
    """A contestant for `interleave` that returns the seconds `work` took.

    >>> ticks = iter([10.0, 10.5])
    >>> timed(lambda: None, clock=lambda: next(ticks))()
    0.5
    """

    def run() -> float:
        start = clock()
        work()
        return clock() - start

    return run


def ratio(ours: Sample | None, theirs: Sample | None) -> float | None:
    """Median over median; None when either is absent, so that an absent peer never counts as a win.

    >>> ratio(Sample((4.0, 6.0, 5.0)), Sample((2.0, 2.5, 3.0))), ratio(Sample((1.0,)), None)
    (2.0, None)
    """
    if ours is None or theirs is None or theirs.median == 0:
        return None
    return ours.median / theirs.median


def data_folder(name: str = "") -> Path | None:
    """A folder of the data sets: below SCOREFUSION_DATA, else below ../shared/data; None when it is not there."""
    return _existing("SCOREFUSION_DATA", ROOT.parent / "shared" / "data", name)


def opponent(name: str) -> Path | None:
    """A frozen opponent's script: below SCOREFUSION_OPPONENTS, else below ../shared/opponents; None when it is not there."""
    return _existing("SCOREFUSION_OPPONENTS", ROOT.parent / "shared" / "opponents", name)


def peer_python(name: str) -> Path | None:
    """The interpreter of a peer's own environment, `.venv-peers-NAME`; None when `make peers` has not finished it."""
    folder = ROOT / f".venv-peers-{name}"
    return folder / "bin" / "python" if (folder / ".installed").is_file() else None


def machine() -> dict[str, Cell]:
    """The processor, its cores that this process may use, and the memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        memory = float("nan")
    return {"processor": _processor(), "cores": cores, "memory_gib": _number(memory), "system": platform.system()}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python's and the installed packages' versions."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _existing(variable: str, default: Path, name: str) -> Path | None:
    folder = Path(os.environ.get(variable) or default)
    path = folder / name if name else folder
    return path if path.exists() else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(cell: Cell) -> Cell:
    return _number(cell) if isinstance(cell, float) else cell


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if not math.isfinite(cell):
        return "-"
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}" if abs(cell) >= 1 else f"{cell:.4f}"
