"""What a learned fusion is worth on later days, task by task against its controls, and how it answers: JSON and a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.arrays import Floats
from core.artefacts import json_bytes
from core.logs import LoggedDataset
from fusion.fused import FusionStrategy
from fusion.learned.fit import Learned
from fusion.learned.judge import judged
from fusion.learned.responses import responses
from fusion.page import BLUE, GREY, Figure, Section, document, intervals, layout, line, table
from fusion.search.bootstrap import interval, user_draws
from fusion.search.judged import Judged
from fusion.search.objective import Objective, gauc, mtf_gauc

JSON_FILE, PAGE_FILE = "learned.json", "report.html"
Gain = Mapping[str, float | None]


def facts(
    learned: Learned,
    log: LoggedDataset,
    *,
    gains: Mapping[str, float],
    controls: Mapping[str, FusionStrategy],
    drift: Mapping[str, float] | None = None,
    n_draws: int = 300,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything the page shows, as JSON values.

    Args:
        log: Later rows, of which nothing was learned and by which nothing was chosen.
        controls: Strategies to compare with, by name; the first is the one that tasks are compared with.
        drift: Population stability index of each task's scores between the days learned from and these.
    """
    labels = [task for task in dict.fromkeys((*gains, *learned.strategy.inputs.tasks)) if _two_classes(log, task)]
    objective = Objective([mtf_gauc(gains), *(gauc(label, 0.0) for label in labels)])
    judges = {name: judged(strategy, log, objective) for name, strategy in {**controls, "learned": learned.strategy}.items()}
    users = user_draws(judges["learned"].n_users, n_draws, seed)
    first = next(iter(controls), "learned")
    signs = dict(zip(learned.strategy.inputs.tasks, learned.strategy.inputs.signs, strict=True))
    return {
        **learned.summary(),
        "inputs": learned.strategy.inputs.to_json(),
        "gains": dict(gains),
        "n_rows": len(log),
        "n_users": judges["learned"].n_users,
        "values": {name: _with_interval(judge.value, judge.draws(users)) for name, judge in judges.items()},
        "gain_over": {
            name: _gain(judges["learned"].value, judge.value, judges["learned"].draws(users), judge.draws(users))
            for name, judge in judges.items()
            if name != "learned"
        },
        "control": first,
        "tasks": _tasks(judges["learned"], judges[first], labels, users, signs),
        "proof": learned.strategy.proof,
        "responses": responses(learned.strategy, log, seed),
        "drift": {name: _number(value) for name, value in (drift or {}).items()},
    }


def write(found: Mapping[str, Any], folder: str | Path) -> Path:
    """`learned.json` and `report.html` below a folder."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    (target / JSON_FILE).write_bytes(json_bytes(found))
    (target / PAGE_FILE).write_text(page(found))
    return target


def page(found: Mapping[str, Any]) -> str:
    """The page of `facts`."""
    over = found["gain_over"]
    lead = (
        f"{found['best_round']} rounds, seed {found['seed']}; judged on {found['n_rows']:,} later impressions of "
        f"{found['n_users']:,} users. Intervals (95 %) redraw users and keep the fusions paired."
    )
    sections = [
        Section(
            "Is it better?",
            " ".join(f"Over {name}: {_verdict(gain)}." for name, gain in over.items()) or "No control was given.",
            table(
                ["fusion", "MTF-GAUC", "low", "high", "learned minus it", "low", "high"],
                [[name, *_three(value), *_three(over.get(name))] for name, value in found["values"].items()],
            ),
            [intervals("learned minus control, MTF-GAUC", list(over), [_floats(gain) for gain in over.values()])] if over else [],
        ),
        Section(
            "Task by task",
            f"GAUC of the final score for each behaviour, against {found['control']}: a fusion may pay for one with another. "
            "Where a behaviour should rank low, less is better.",
            table(
                ["behaviour", found["control"], "learned", "gain", "low", "high", ""],
                [
                    [t, v["control"], v["learned"], *_three(v["gain"]), _verdict(v["gain"], v["sign"])]
                    for t, v in found["tasks"].items()
                ],
            ),
            [intervals("gain by behaviour, GAUC", list(found["tasks"]), [_floats(v["gain"]) for v in found["tasks"].values()])],
        ),
        Section(
            "Monotone",
            f"{found['proof']} Checked again below on {_n_steps(found):,} steps of real impressions: "
            f"{sum(r['wrong_steps'] for r in found['responses'].values())} went against a goal. "
            "Lines: the mean over impressions, and the middle 80 % of them.",
            figures=[_response(task, answer) for task, answer in found["responses"].items()],
        ),
    ]
    if found["history"]:
        rounds = [float(i + 1) for i in range(len(found["history"]))]
        curve = layout("MTF-GAUC on the validation day", [line(rounds, found["history"], "")], "round", "MTF-GAUC")
        sections.append(Section("Learning", f"The best round was {found['best_round']}.", figures=[curve]))
    if found["drift"]:
        words = "Population stability index of each task's scores, days learned from against days judged: above .25 act."
        sections.append(Section("Drift of scores", words, table(["task", "PSI"], [[t, v] for t, v in found["drift"].items()])))
    return document(f"Learned fusion: {found['kind']}", lead, sections, JSON_FILE)


def _tasks(learned: Judged, control: Judged, labels: Sequence[str], users: Floats, signs: Mapping[str, int]) -> dict[str, Any]:
    ours, theirs = learned.term_draws(users), control.term_draws(users)
    found = {}
    for label in labels:
        name = f"gauc_{label}"
        gain = _gain(learned.terms[name], control.terms[name], ours[name], theirs[name])
        values = {"learned": _number(learned.terms[name]), "control": _number(control.terms[name])}
        found[label] = {**values, "gain": gain, "sign": signs.get(label, 1)}
    return found


def _gain(ours: float, theirs: float, our_draws: Floats, their_draws: Floats) -> Gain:
    return _with_interval(ours - theirs, our_draws - their_draws)


def _with_interval(value: float, draws: Floats) -> Gain:
    found = interval(draws)
    return {"value": _number(value), "low": _number(found.low), "high": _number(found.high)}


def _two_classes(log: LoggedDataset, label: str) -> bool:
    if label not in log:
        return False
    values = np.unique(np.asarray(log[label], dtype=np.float64))
    return np.array_equal(values[np.isfinite(values)], [0.0, 1.0])


def _verdict(gain: Gain, sign: int = 1) -> str:
    if gain["low"] is None or gain["high"] is None:
        return "cannot be told"
    if gain["low"] <= 0 <= gain["high"]:
        return "no proven difference"
    return "better" if sign * gain["low"] > 0 else "worse"


def _three(gain: Gain | None) -> list[str | float | None]:
    return [None, None, None] if gain is None else [gain["value"], gain["low"], gain["high"]]


def _floats(gain: Gain) -> tuple[float, float, float]:
    value, low, high = (math.nan if gain[key] is None else float(gain[key] or 0.0) for key in ("value", "low", "high"))
    return value, low, high


def _n_steps(found: Mapping[str, Any]) -> int:
    return sum(r["n_steps"] for r in found["responses"].values())


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _response(task: str, answer: Mapping[str, Any]) -> Figure:
    """Mean change of the final score over the task's own scores, with the middle 80 % of impressions."""
    band = [
        line(answer["score"], answer["low"], "", GREY, dash="dot"),
        line(answer["score"], answer["high"], "", GREY, dash="dot"),
        line(answer["score"], answer["mean"], "", BLUE),
    ]
    return layout(task, band, f"score of {task}", "change of the final, in SD")
