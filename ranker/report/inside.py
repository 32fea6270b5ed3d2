"""What gates, expert selection and attention do on rows: means and standard deviations of what a forward pass notes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.arrays import AnyArray, Floats
from core.logs import LoggedDataset
from ranker.batches import Batch, pack_inputs
from ranker.encoder import Encoder
from ranker.sequence import unpooled
from ranker.train import Trained

CHUNK = 4096


def notes(trained: Trained, rows: Batch) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """What the model notes, chunk by chunk, in evaluation mode."""
    trained.model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK):
            part = rows.slice(start, start + CHUNK)
            yield part, dict(trained.model.run(part).inspect)


def utilisation(trained: Trained, rows: Batch) -> dict[str, Any]:
    """Mean and standard deviation over rows of every gate's weights: `{gate: {readers, experts, mean, std}}`."""
    total: dict[str, Floats] = {}
    square: dict[str, Floats] = {}
    n = 0
    for part, seen in notes(trained, rows):
        n += len(part)
        for name, gate in seen.items():
            if name.startswith("gate") and gate.dim() == 3 and name not in _own_scenario(trained):
                values = gate.double()
                total[name] = total.get(name, np.zeros(1)) + values.sum(0).numpy()
                square[name] = square.get(name, np.zeros(1)) + values.square().sum(0).numpy()
    found = {}
    for name in total:
        mean = total[name] / n  # (K, E)
        std = np.sqrt(np.maximum(square[name] / n - mean**2, 0))
        found[name] = {
            "readers": _readers(trained, len(mean)),
            "experts": _experts(trained, mean.shape[1]),
            "mean": mean,
            "std": std,
        }
    return found


def selection(trained: Trained, rows: Batch) -> dict[str, Any]:
    """AESM^2: by level, how often each scenario or task selects each expert, specific or shared, and its mean gate weight."""
    found: dict[str, Any] = {}
    sums: dict[str, dict[str, Floats]] = {}
    for _, seen in notes(trained, rows):
        for key in [k for k in seen if k.startswith("specific:")]:
            level = key.split(":", 1)[1]
            own = seen.get(f"scenario:{level}")
            specific, shared, gate = (seen[f"{what}:{level}"].double() for what in ("specific", "shared", "gate"))
            at = sums.setdefault(level, {})
            _add(at, "specific", specific, own, trained, level)
            _add(at, "shared", shared.expand_as(specific), own, trained, level)
            _add(at, "gate", gate, own, trained, level)
            _add(at, "square", gate.square(), own, trained, level)
            _add(at, "n", torch.ones_like(gate), own, trained, level)
    for level, at in sums.items():
        met = at["n"][:, 0] > 0
        n = at["n"][met]
        names = _readers(trained, len(met)) if level == "task" else row_names(trained.encoder, level)
        mean = at["gate"][met] / n
        found[level] = {
            "groups": [name for name, there in zip(names, met, strict=True) if there],
            "specific": at["specific"][met] / n,
            "shared": at["shared"][met] / n,
            "gate_mean": mean,
            "gate_std": np.sqrt(np.maximum(at["square"][met] / n - mean**2, 0)),
            "n_rows": n[:, 0],
        }
    return found


def attention_tables(trained: Trained, rows: Batch) -> list[dict[str, Any]]:
    """DUPN: attention by every two properties of a behaviour, such as event type and age, as lift: 1 is an equal share."""
    properties = list(getattr(trained.model.lead, "properties", ()))
    pairs: list[tuple[str, ...]] = [*combinations(properties, 2)] or [(name,) for name in properties]
    names = {name: row_names(trained.encoder, name) for name in properties}
    sums = {pair: np.zeros((2, *(len(names[name]) for name in pair))) for pair in pairs}  # of lift, of behaviours
    for part, seen in notes(trained, rows) if pairs else ():
        if "attention" not in seen:
            return []
        ids = {name: (part.lists[name].long() - trained.encoder.layout.offsets[name]).numpy() for name in properties}
        real = (part.lists[properties[0]] > 0).numpy()
        share = (seen["attention"].numpy() * real.sum(1, keepdims=True))[real]
        for pair in pairs:
            place = tuple(ids[name][real] for name in pair)
            np.add.at(sums[pair][0], place, share)
            np.add.at(sums[pair][1], place, 1)
    found = []
    for pair, (lift, count) in sums.items():
        mean = np.where(count > 0, lift / np.maximum(count, 1), np.nan)
        mean, count = mean.reshape(len(mean), -1), count.reshape(len(count), -1)  # one property is a table of one column
        rows_met, columns_met = np.flatnonzero(count.sum(1)), np.flatnonzero(count.sum(0))
        found.append(
            {
                "properties": list(pair),
                "rows": [names[pair[0]][at] for at in rows_met],
                "columns": [names[pair[1]][at] for at in columns_met] if len(pair) == 2 else ["all"],
                "lift": mean[np.ix_(rows_met, columns_met)],
                "n": count[np.ix_(rows_met, columns_met)],
            }
        )
    return found


def attention_of_one(trained: Trained, log: LoggedDataset, *, limit: int = 12) -> dict[str, Any] | None:
    """One user's attention over the sequence, for several values of what it is asked about: a query, or a candidate's feature.

    The user is the one with the longest sequence. DUPN's attention reads the request, so its first sparse feature is
    varied; DIN's reads the item, so the attended item feature is.
    """
    spec, layout = trained.encoder.spec, trained.encoder.layout
    items, _ = unpooled(layout)
    sequences = list(getattr(trained.model.lead, "sequences", ())) or items
    asked = (
        [f.name for f in layout.sparse["request"]]
        if trained.model_name == "dupn"
        else [str(spec[s].shares) for s in sequences[:1]]
    )
    if not items or not sequences or not asked or trained.model_name not in ("din", "dupn"):
        return None
    feature = spec[asked[0]]
    column = log[spec[sequences[0]].column]
    lengths = np.array([0 if v is None else len(v) for v in column])
    chosen = int(lengths.argmax())
    values, counts = np.unique(log[feature.column], return_counts=True)
    values = values[np.argsort(-counts, kind="stable")[:limit]]
    asked_log = log.take(np.full(len(values), chosen)).with_columns({feature.column: values})
    _, seen = next(notes(trained, pack_inputs(trained.encoder, asked_log)))
    key = "attention" if "attention" in seen else f"attention:{sequences[0]}"
    length = min(int(lengths[chosen]), spec[sequences[0]].max_len)
    weights = seen[key].numpy()[:, :length]
    return {
        "user": str(log[spec.user][chosen]) if spec.user in log else "",
        "feature": feature.name,
        "values": [str(v) for v in values],
        "entries": [str(v) for v in list(column[chosen])[-length:]],
        "attention": weights,
    }


def row_names(encoder: Encoder, feature: str) -> list[str]:
    """What each row of a feature's table stands for."""
    owner = encoder.spec[feature].shares or feature
    vocabulary = encoder.vocabularies[owner]
    names = ["missing", *(["unknown"] * vocabulary.oov), *(str(i) for i in range(vocabulary.size))]
    if vocabulary.kind == "fit":
        for key, row in zip(vocabulary.keys.tolist(), vocabulary.rows.tolist(), strict=True):
            names[row] = str(key)
    return names


def _add(at: dict[str, Floats], what: str, value: Tensor, own: Tensor | None, trained: Trained, level: str) -> None:
    """Sum `(B, m', n)` over rows, by group: the row's own scenario, or every task."""
    if own is None:
        at[what] = at.get(what, np.zeros(1)) + value.sum(0).numpy()
        return
    n_groups = trained.encoder.layout.rows[level]
    if what not in at:
        at[what] = np.zeros((n_groups, value.shape[2]))
    groups: AnyArray = own.expand(value.shape[0]).numpy()
    np.add.at(at[what], groups, value[:, 0].numpy())


def _own_scenario(trained: Trained) -> set[str]:
    """Gates of scenario levels: each row's belongs to another scenario, so `selection` shows them."""
    return {f"gate:{name}" for name in getattr(trained.model.lead, "scenarios", ())}


def _readers(trained: Trained, n: int) -> list[str]:
    names = [task.name for task in trained.model.item_tasks]
    return names if n == len(names) else ["all tasks"] if n == 1 else [f"reader {i + 1}" for i in range(n)]


def _experts(trained: Trained, n: int) -> list[str]:
    model = getattr(trained.model.lead, "network", trained.model.lead)
    own, shared = getattr(model, "n_specific", None), getattr(model, "n_shared", None)
    if trained.model_name != "aesm2" and own is not None and shared is not None and own + shared == n:
        return [*(f"own {i + 1}" for i in range(own)), *(f"shared {i + 1}" for i in range(shared))]
    return [f"e{i + 1}" for i in range(n)]
