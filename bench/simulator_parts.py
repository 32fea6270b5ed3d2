"""Parts of the simulator's bench: what each found is kept as one JSON file, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.harness import Bench, Cell
from simulator import SessionEnv, World, judge, oracle
from simulator.policies import constant


@dataclass(slots=True)
class Part:
    """Tables (title, headers, rows), figures and notes in the order they were found."""

    tables: list[tuple[str, list[str], list[list[Cell]]]] = field(default_factory=list)
    figures: dict[str, float | None] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str) -> None:
        """Keep a table; `show` prints it."""
        self.tables.append((title, list(headers), [list(row) for row in rows]))

    def show(self, bench: Bench) -> None:
        """Print the part and hand its figures to the bench."""
        for title, headers, rows in self.tables:
            bench.table(headers, rows, title=title)
        for name, value in self.figures.items():
            bench.figure(name, value)
        for name, text in self.notes.items():
            bench.note(name, text)


def kept(work: Path | None, name: str, make: Callable[[], Part]) -> Part:
    """The finished part `name` in the folder `work`, or made now (and kept there, whole or not at all)."""
    path = None if work is None else work / f"{name}.json"
    if path is not None and path.is_file():
        saved = json.loads(path.read_text())
        return Part([(title, headers, rows) for title, headers, rows in saved["tables"]], saved["figures"], saved["notes"])
    part = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(part), indent=1) + "\n")
        partial.replace(path)
    return part


def course(preset: str, seed: int) -> str:
    """Eight letters that change when sessions of this world, or the way they are judged, run another course."""
    env = SessionEnv(World.make(preset, seed=seed), 64)
    judged = judge.judge(env, constant(env.actions(env.world.hand_set())), n_sessions=64, seed=1)
    content = judged.session_return.tobytes() + judged.days_away.tobytes() + inspect.getsource(oracle).encode()
    return hashlib.sha256(content).hexdigest()[:8]
