"""A ranker as one graph for runtimes without this code: torch.export and ONNX, with any number of candidates, parity checked."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.arrays import Columns
from core.artefacts import write_whole
from core.errors import ArtefactError
from ranker.encoder import Layout
from ranker.features import SIDES
from ranker.heads import predict
from ranker.inputs import Rows
from ranker.predictor import Predictor


class Scorer(nn.Module):
    """Encoded rows of one user, one request and n items in, predictions `(n, n_scored)` out, in the split form.

    Its input is one mapping: `user.ids`, `user.dense`, `user.list.<feature>` and so on for request and item.
    """

    label_mean: Tensor
    label_std: Tensor
    label_smear: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.tasks = predictor.tasks
        self.lists = {side: [f.name for f in predictor.encoder.layout.lists[side]] for side in SIDES}
        scales = [predictor.scales.get(name) for name in predictor.scored]
        self.log = [scale is not None and scale.kind == "log1p" for scale in scales]
        self.register_buffer("label_mean", torch.tensor([scale.mean if scale else 0.0 for scale in scales]))
        self.register_buffer("label_std", torch.tensor([scale.std if scale else 1.0 for scale in scales]))
        self.register_buffer("label_smear", torch.tensor([scale.smear if scale else 1.0 for scale in scales]))

    def forward(self, rows: Mapping[str, Tensor]) -> Tensor:
        """Predictions in the order of the scored tasks, in their own units."""
        user, request, item = (
            Rows(rows[f"{side}.ids"], rows[f"{side}.dense"], {name: rows[f"{side}.list.{name}"] for name in self.lists[side]})
            for side in SIDES
        )
        values = predict(self.tasks, self.model(self.model.inputs(user, request, item)))[0]
        values = values * self.label_std + self.label_mean  # (n, n_scored); 1 and 0 for probabilities
        if any(self.log):
            values = torch.where(torch.tensor(self.log), self.label_smear * torch.exp(values) - 1, values)
        return values


def encoded(predictor: Predictor, user: Columns, request: Columns, items: Columns, n_items: int) -> dict[str, Tensor]:
    """The mapping that an exported ranker reads, from columns of one user, one request and `n_items` items."""
    rows: dict[str, Tensor] = {}
    for side, columns, n in (("user", user, 1), ("request", request, 1), ("item", items, n_items)):
        found = predictor.encoder.encode(side, columns, n)  # type: ignore[arg-type]  # a side's name
        rows[f"{side}.ids"], rows[f"{side}.dense"] = torch.from_numpy(found.ids), torch.from_numpy(found.dense)
        rows |= {f"{side}.list.{name}": torch.from_numpy(ids) for name, ids in found.lists.items()}
    return rows


def example_rows(predictor: Predictor, n_items: int = 8, *, seed: int = 0) -> dict[str, Tensor]:
    """The same mapping with random rows of the right tables, for an export without data at hand."""
    layout, rng = predictor.encoder.layout, torch.Generator().manual_seed(seed)
    rows: dict[str, Tensor] = {}
    for side in SIDES:
        n = n_items if side == "item" else 1
        columns = [_random(layout, feature.name, (n, 1), rng) for feature in layout.sparse[side]]
        rows[f"{side}.ids"] = torch.cat(columns, 1) if columns else torch.zeros((n, 0), dtype=torch.int32)
        rows[f"{side}.dense"] = torch.randn((n, layout.n_dense(side)), generator=rng)
        rows |= {f"{side}.list.{f.name}": _random(layout, f.name, (n, f.max_len), rng) for f in layout.lists[side]}
    return rows


def _random(layout: Layout, name: str, shape: tuple[int, int], rng: torch.Generator) -> Tensor:
    return (layout.offsets[name] + torch.randint(0, layout.rows[name], shape, generator=rng)).int()


def export(predictor: Predictor, example: Mapping[str, Tensor], *, tolerance: float = 1e-5) -> torch.export.ExportedProgram:
    """The scorer as a graph whose number of items is free, checked against the model on the example and on fewer items.

    Args:
        example: What `encoded` or `example_rows` gives, with at least three items.

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
    return write_whole(path, content.getvalue())


def load(path: str | Path) -> torch.export.ExportedProgram:
    """Read a `.pt2` file."""
    return torch.export.load(str(path))


def score(program: torch.export.ExportedProgram, rows: Mapping[str, Tensor]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Predictions of an exported ranker, `[n_items, n_scored]`."""
    found: Tensor = program.module()(dict(rows))
    return np.asarray(found.detach().numpy())


def to_onnx(program: torch.export.ExportedProgram, example: Mapping[str, Tensor], tasks: Sequence[str]) -> bytes:
    """The exported ranker as an ONNX model: the mapping's entries are its inputs, `scores` `(n_items, n_scored)` its output.

    Args:
        tasks: Names of the output's columns, kept in the model's metadata.
    """
    quiet = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it warns of every optional library that is not there
    try:
        made = torch.onnx.export(program, input_names=list(example), output_names=["scores"], optimize=False, verbose=False)
    finally:
        quiet.setLevel(level)
    assert made is not None
    made.model.metadata_props["tasks"] = json.dumps(list(tasks))
    content: bytes = made.model_proto.SerializeToString()
    return content


def onnx_gap(content: bytes, predictor: Predictor, example: Mapping[str, Tensor], *, tolerance: float = 1e-5) -> float | None:
    """The largest difference between the ONNX model in onnxruntime and the ranker, on the example and on fewer items.

    Returns:
        The difference; None where onnxruntime is not installed, so that nothing was compared.

    Raises:
        ArtefactError: It is above `tolerance`, relative to predictions above 1.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scorer, largest = Scorer(predictor).eval(), 0.0
    for size in (example["item.ids"].shape[0], 2):
        rows = {name: value[:size] if name.startswith("item.") else value for name, value in example.items()}
        with torch.no_grad():
            wanted = scorer(rows).numpy()
        found = session.run(["scores"], {one.name: rows[one.name].numpy() for one in session.get_inputs()})[0]
        gap = float((np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)).max())
        if found.shape != wanted.shape or not gap <= tolerance:
            raise ArtefactError(f"the ONNX model differs from the ranker by {gap:g} on {size} items; do not serve it")
        largest = max(largest, gap)
    return largest
