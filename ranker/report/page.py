"""The report of one ranker as an HTML page: a section for each thing that `facts` holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ranker.report.draw import COLOURS, Figure, Section, document, figure, heat, line, marked, number, rows_table

CALIBRATION = "Rate of positives against the mean prediction in bins of equal counts, with 95 % intervals; the line is perfect."


def page(facts: Mapping[str, Any]) -> str:
    """The whole page, from `facts`."""
    sections: list[Section] = [
        ("Metrics", "On the rows that chose the epoch.", _metrics(facts), []),
        (
            "Learning curves",
            "Training loss (dotted) and validation loss by task; the chosen epoch is marked.",
            "",
            _curves(facts),
        ),
        ("Calibration", CALIBRATION, "", _calibration(facts)),
        (
            "Expert utilisation",
            "Mean gate weight, and its standard deviation over rows in the hover text.",
            "",
            [heat(gate, v["mean"], v["readers"], v["experts"], v["std"]) for gate, v in facts["utilisation"].items()],
        ),
        (
            "Expert selection",
            "How often a scenario or task selects an expert, as its own or as a shared one, and the gate weight it gives.",
            "",
            [f for level, v in facts["selection"].items() for f in _selection(level, v)],
        ),
        (
            "Attention by behaviour",
            "Lift: how many times its equal share of the sequence a behaviour of this kind gets.",
            "",
            _attention(facts["attention"]),
        ),
        (
            "One user's attention",
            "The weight of each behaviour, oldest on the left, for each value that the model is asked about.",
            "",
            _one(facts["attention_of_one"]),
        ),
        (
            "Gradient cosines",
            "Between the tasks' gradients on the shared layers, mean over batches; below 0 two tasks pull apart.",
            "",
            _cosines(facts["gradient_cosines"]),
        ),
    ]
    size = facts["parameters"]
    intro = (
        f"{facts['n_rows']:,} rows, seed {facts['seed']}, best epoch {facts['best_epoch']:g}; "
        f"{size['dense']:,} numbers in dense layers, {size['tables']:,} in embedding tables. "
        f"Options: {json.dumps(facts['options'])}"
    )
    if facts["members"] > 1:
        intro += f". It is the mean of {facts['members']} networks; gates, selection and attention are those of the first member."
    return document(f"Ranker {facts['model']}", intro, sections)


def evaluation_page(facts: Mapping[str, Any]) -> str:
    """The page of a ranker judged on fresh rows: by task, by scenario, calibration."""
    scenarios = facts["scenarios"]
    names = list(dict.fromkeys(n for tasks in scenarios.values() for row in tasks.values() for n in row if "_" not in n))
    rows = [[s, task, *(number(row.get(n)) for n in names)] for s, tasks in scenarios.items() for task, row in tasks.items()]
    moved = [[name, f"{shift:+.2f}"] for name, shift in facts["drifted"].items()]
    sections: list[Section] = [
        ("Metrics", "Over the rows of each task's own sample space.", _metrics(facts), []),
        ("By scenario", "The same, scenario by scenario.", rows_table(["scenario", "task", *names], rows) if rows else "", []),
        ("Calibration", CALIBRATION, "", _calibration(facts)),
        (
            "Drifted features",
            "How many training deviations a feature's mean lies from that of the training rows.",
            rows_table(["feature", "deviations"], moved) if moved else "",
            [],
        ),
    ]
    return document(f"{facts['ranker']}, judged", f"{facts['part']} rows, data {facts['data_fingerprint'][:12]}.", sections)


def _metrics(facts: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for row in facts["metrics"].values() for name in row if "_" not in name))
    rows = [[task, *(number(row.get(name)) for name in names)] for task, row in facts["metrics"].items()]
    return rows_table(["task", *names], rows)


def _curves(facts: Mapping[str, Any]) -> list[Figure]:
    curves = facts["curves"]
    figures = []
    for at, task in enumerate(facts["tasks"]):
        colour = COLOURS[at % len(COLOURS)]
        lines = [
            line(curves["epoch"], curves["valid_loss"][task], "validation", colour),
            line(curves["train_epoch"], curves["train_loss"][task], "training", colour, dash="dot"),
        ]
        made = figure(task, lines, "epoch", "loss")
        made["layout"]["shapes"] = [marked(facts["best_epoch"])]
        figures.append(made)
    weights = {task: w for task, w in curves["weights"].items() if any(v is not None for v in w)}
    if len({v for w in weights.values() for v in w}) > 1:
        lines = [
            line(curves["train_epoch"], w, task, COLOURS[i % len(COLOURS)], legend=True)
            for i, (task, w) in enumerate(weights.items())
        ]
        figures.append(figure("loss weights", lines, "epoch", "weight"))
    figures.append(figure("monitored score", [line(curves["epoch"], curves["score"], "score", COLOURS[0])], "epoch", "score"))
    return figures


def _calibration(facts: Mapping[str, Any]) -> list[Figure]:
    figures = []
    for at, (task, bins) in enumerate(facts["calibration"].items()):
        if not bins["predicted"]:
            continue
        top = max(*bins["predicted"], *bins["rate_high"])
        points = {
            "type": "scatter",
            "mode": "markers",
            "x": bins["predicted"],
            "y": bins["rate"],
            "marker": {"color": COLOURS[at % len(COLOURS)], "size": 7},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [high - rate for high, rate in zip(bins["rate_high"], bins["rate"], strict=True)],
                "arrayminus": [rate - low for low, rate in zip(bins["rate_low"], bins["rate"], strict=True)],
                "thickness": 1,
            },
            "showlegend": False,
        }
        perfect = line([0, top], [0, top], "perfect", "#8a949e", dash="dash")
        figures.append(figure(task, [perfect, points], "mean prediction", "rate"))
    return figures


def _selection(level: str, value: Mapping[str, Any]) -> list[Figure]:
    experts = [f"e{i + 1}" for i in range(len(value["specific"][0]))]
    groups = value["groups"]
    return [
        heat(f"{level}: selected as its own", value["specific"], groups, experts, top=1.0),
        heat(f"{level}: selected as shared", value["shared"], groups, experts, top=1.0),
        heat(f"{level}: gate weight", value["gate_mean"], groups, experts, value["gate_std"]),
    ]


def _attention(tables: Sequence[Mapping[str, Any]]) -> list[Figure]:
    return [heat(" x ".join(table["properties"]), table["lift"], table["rows"], table["columns"]) for table in tables]


def _one(value: Mapping[str, Any] | None) -> list[Figure]:
    if value is None:
        return []
    entries = [f"{i + 1}: {entry}" for i, entry in enumerate(value["entries"])]
    return [heat(f"user {value['user']} by {value['feature']}", value["attention"], value["values"], entries, text=False)]


def _cosines(value: Mapping[str, Any] | None) -> list[Figure]:
    if value is None:
        return []
    names = value["tasks"]
    made = heat(f"{value['n_batches']} batches", value["mean"], names, names)
    made["data"][0] |= {"colorscale": [[0, "#b03a48"], [0.5, "#ffffff"], [1, "#2c5f8a"]], "zmin": -1, "zmax": 1}
    return [made]
