"""A ranker as one compiled graph for runtimes without this code: torch.export, with any number of candidates, parity checked."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.arrays import Columns
from core.errors import ArtefactError
from ranker.features import SIDES
from ranker.heads import predict
from ranker.inputs import Rows
from ranker.predictor import Predictor


class Scorer(nn.Module):
    """Encoded rows of one user, one request and n items in, predictions `(n, n_scored)` out, in the split form.

    Its input is one mapping: `user.ids`, `user.dense`, `user.list.<feature>` and so on for request and item.
    """

    mean: Tensor
    std: Tensor
    smear: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.tasks = predictor.tasks
        self.lists = {side: [f.name for f in predictor.encoder.layout.lists[side]] for side in SIDES}
        scales = [predictor.scales.get(name) for name in predictor.scored]
        self.log = [scale is not None and scale.kind == "log1p" for scale in scales]
        self.register_buffer("mean", torch.tensor([scale.mean if scale else 0.0 for scale in scales]))
        self.register_buffer("std", torch.tensor([scale.std if scale else 1.0 for scale in scales]))
        self.register_buffer("smear", torch.tensor([scale.smear if scale else 1.0 for scale in scales]))

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Predictions in the order of the scored tasks, in their own units."""
        user, request, item = (
            Rows(rows[f"{side}.ids"], rows[f"{side}.dense"], {name: rows[f"{side}.list.{name}"] for name in self.lists[side]})
            for side in SIDES
        )
        values = predict(self.tasks, self.model(self.model.inputs(user, request, item)))[0]
        values = values * self.std + self.mean  # (n, n_scored); 1 and 0 for probabilities
        if any(self.log):
            values = torch.where(torch.tensor(self.log), self.smear * torch.exp(values) - 1, values)
        return values


def encoded(predictor: Predictor, user: Columns, request: Columns, items: Columns, n_items: int) -> dict[str, Tensor]:
    """The mapping that an exported ranker reads, from columns of one user, one request and `n_items` items."""
    rows: dict[str, Tensor] = {}
    for side, columns, n in (("user", user, 1), ("request", request, 1), ("item", items, n_items)):
        found = predictor.encoder.encode(side, columns, n)  # type: ignore[arg-type]  # a side's name
        rows[f"{side}.ids"], rows[f"{side}.dense"] = torch.from_numpy(found.ids), torch.from_numpy(found.dense)
        rows |= {f"{side}.list.{name}": torch.from_numpy(ids) for name, ids in found.lists.items()}
    return rows


def export(predictor: Predictor, example: Mapping[str, Tensor], *, tolerance: float = 1e-5) -> torch.export.ExportedProgram:
    """The scorer as a graph whose number of items is free, checked against the model on the example and on fewer items.

    Args:
        example: What `encoded` gives, with at least three items.

    Raises:
        ArtefactError: The graph's predictions differ from the model's by more than `tolerance`.
    """
    scorer = Scorer(predictor).eval()
    n = torch.export.Dim("n_items", min=2)
    shapes = {name: {0: n} if name.startswith("item.") else {} for name in example}
    with torch.no_grad():
        program = torch.export.export(scorer, (dict(example),), dynamic_shapes=(shapes,))
        for size in (example["item.ids"].shape[0], 2):
            rows = {name: value[:size] if name.startswith("item.") else value for name, value in example.items()}
            gap = float((program.module()(rows) - scorer(rows)).abs().max())
            if not gap <= tolerance:
                raise ArtefactError(f"the exported graph differs from the ranker by {gap:g} on {size} items; do not serve it")
    return program


def save(program: torch.export.ExportedProgram, path: str | Path) -> Path:
    """Write a `.pt2` file, which C++ and Python runtimes of torch load."""
    content = io.BytesIO()
    torch.export.save(program, content)
    target = Path(path)
    target.write_bytes(content.getvalue())
    return target


def load(path: str | Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file."""
    return torch.export.load(str(path))


def score(program: torch.export.ExportedProgram, rows: Mapping[str, Tensor]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Predictions of an exported ranker, `[n_items, n_scored]`."""
    found: Tensor = program.module()(dict(rows))
    return np.asarray(found.detach().numpy())
