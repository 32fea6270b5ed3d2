"""A trained ranker at work: joint batches offline, and the split form that serving calls, from an artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.arrays import AnyArray, Columns, Floats32
from core.artefacts import Artefact, ArtefactStore, tensors
from core.errors import ArtefactError, DataError
from core.events import Request
from core.logs import LoggedDataset
from core.scores import ScoreTable
from core.tasks import TaskSet
from ranker import models
from ranker.batches import Batch, pack_inputs
from ranker.encoder import Encoder, SideRows
from ranker.features import SIDES, FeatureSpec, Side
from ranker.heads import Outputs, predict
from ranker.inputs import Parts, Rows, SequenceInput
from ranker.models.base import MultiTaskModel
from ranker.targets import Scale

KIND = "ranker"
CHUNK = 16_384  # rows a joint batch


@dataclass(slots=True)
class Encoded:
    """One side of n rows, embedded once and used by many requests.

    Args:
        side: Whose rows they are.
        x: The side's input vector `(n, D_side)`.
        projected: Items only: what the model's first layers make of the item part, `(n, sum of their widths)`.
        lists: Unpooled lists as table rows `(n, L)`, embedded when used.
        ids: Rows of the features the model watches, `(n,)` each.
    """

    side: Side
    x: Tensor
    projected: Tensor | None = None
    lists: Mapping[str, Tensor] = field(default_factory=dict)
    ids: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, rows: AnyArray) -> Encoded:
        """Some of the rows, by index `[m]`."""
        index = torch.from_numpy(np.ascontiguousarray(rows))
        with torch.inference_mode():
            return Encoded(
                self.side,
                self.x.index_select(0, index),
                None if self.projected is None else self.projected.index_select(0, index),
                {name: ids.index_select(0, index) for name, ids in self.lists.items()} if self.lists else self.lists,
                {name: ids.index_select(0, index) for name, ids in self.ids.items()} if self.ids else self.ids,
            )


class Predictor:
    """Scores candidates for the tasks of a trained ranker. Safe to share between threads: it holds no state of a request."""

    def __init__(
        self, name: str, options: Mapping[str, Any], encoder: Encoder, model: MultiTaskModel, scales: Mapping[str, Scale]
    ) -> None:
        self.model_name, self.options = name, dict(options)
        self.encoder, self.model, self.scales = encoder, model, dict(scales)
        self.spec: FeatureSpec = encoder.spec
        self.tasks: TaskSet = encoder.spec.tasks
        self.scored = self.tasks.scored
        self._all_binary = all(self.tasks[name].kind == "binary" for name in self.scored)
        self._widths = [layer.n_out for layer in model.first_layers]

    @classmethod
    def load(cls, artefact: Artefact) -> Predictor:
        """Read a published ranker.

        Raises:
            ArtefactError: It is of another kind, damaged, or its weights do not fit its feature spec.
        """
        if artefact.kind != KIND:
            raise ArtefactError(f"{artefact.label} is a {artefact.kind}, not a {KIND}; give an artefact that train published")
        encoder = Encoder.from_artefact(artefact)
        config = artefact.config
        weights = {name: torch.from_numpy(array) for name, array in artefact.read_tensors("weights.safetensors").items()}
        model = models.make(config["model"], encoder.layout, encoder.spec.tasks, config["options"])
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ArtefactError(f"{artefact.label}: its weights do not fit its feature spec; publish it again") from error
        model.eval()
        return cls(config["model"], config["options"], encoder, model, {k: Scale(**v) for k, v in config["scales"].items()})

    def publish(
        self,
        store: ArtefactStore,
        name: str,
        *,
        seed: int | None = None,
        data_fingerprint: str | None = None,
        parents: Mapping[str, str] | None = None,
        train: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> Artefact:
        """Write a new version of artefact `ranker/<name>`."""
        weights = {key: value.numpy() for key, value in self.model.state_dict().items()}
        config = {
            "model": self.model_name,
            "options": self.options,
            "scales": {task: scale.to_json() for task, scale in self.scales.items()},
            "train": dict(train or {}),
        }
        return store.publish(
            KIND,
            name,
            {**self.encoder.to_files(), "weights.safetensors": tensors(weights)},
            config=config,
            seed=seed,
            data_fingerprint=data_fingerprint,
            parents=parents,
            metrics=metrics,
        )

    # the split form ---------------------------------------------------------------------------------------------------

    def encode(self, side: Side, columns: Columns, n: int | None = None, *, project: bool = True) -> Encoded:
        """Embed one side of n rows, once for a whole table of items or users.

        Args:
            columns: The side's columns `[n]`; more may be there.
            project: Items: also run the first layers' item part, which trades memory for speed at each request.

        Raises:
            DataError: A column is missing or holds NaN where that is an error.
        """
        rows = self.encoder.encode(side, self._with_fixed(side, columns, n), n)
        parts_x, parts_p = [], []
        lists = {f.name: torch.from_numpy(rows.lists[f.name]) for f in self.encoder.layout.lists[side] if f.pooling == "none"}
        with torch.inference_mode():
            for start in range(0, max(len(rows), 1), CHUNK):
                part = rows.take(slice(start, start + CHUNK))
                x = self.model.inputs.side(side, _rows(part), {})
                parts_x.append(x)
                if side == "item" and project and self.model.first_layers:
                    parts_p.append(self.model.project(x))
            ids = self.model.inputs.watched(side, torch.from_numpy(rows.ids))
            return Encoded(side, torch.cat(parts_x), torch.cat(parts_p) if parts_p else None, lists, ids)

    def score_encoded(self, user: Encoded, request: Encoded | None, items: Encoded) -> Floats32:
        """The hot path: one user, one request, n items, to predictions `[n, n_scored]` in the order of `scored`."""
        with torch.inference_mode():
            return self._values(predict(self.tasks, self._split(user, request, items))[0])

    def score(self, request: Request, user_columns: Columns) -> ScoreTable:
        """Score a request whose item columns came along in `request.features`.

        Args:
            user_columns: The user's columns, one row each.
        """
        if request.features is None:
            raise DataError("the request has no item features; look them up, or send them inline")
        context = {"scenario": request.scenario, "time_ms": request.time_ms, "user_id": request.user_id, **request.context}
        of_request = {f.column: np.array([context[f.column]]) for f in self.spec.side("request") if f.column in context}
        items = self.encode(
            "item", {self.spec.item: request.candidates, **request.features}, len(request.candidates), project=False
        )
        user = self.encode("user", user_columns, 1)
        with torch.inference_mode():
            outputs = self._split(user, self.encode("request", of_request, 1), items)
            values, other = predict(self.tasks, outputs)
            return ScoreTable(self.scored, self._values(values).astype(float), self._other(other))

    def _split(self, user: Encoded, request: Encoded | None, items: Encoded) -> Outputs:
        context = user.x if request is None or request.x.shape[1] == 0 else torch.cat([user.x, request.x], 1)  # (1, Dc)
        projected = None if items.projected is None else dict(enumerate(torch.split(items.projected, self._widths, 1)))
        sequences: dict[str, SequenceInput] = {}
        ids: dict[str, Tensor] = {}
        for encoded in (user, request, items):
            if encoded is not None and encoded.lists:
                self.model.inputs.sequences(encoded.side, encoded.lists, sequences)
            if encoded is not None and encoded.ids:
                ids.update(encoded.ids)
        outputs: Outputs = self.model(Parts(context, items.x, sequences, projected, ids))
        return outputs

    # the joint form ---------------------------------------------------------------------------------------------------

    def score_columns(self, columns: Columns) -> ScoreTable:
        """Score n logged rows, each with its own user, request and item columns."""
        log = LoggedDataset(columns)
        predictions = self.predict(log)
        values = np.stack([predictions[name] for name in self.scored], 1) if self.scored else np.zeros((len(log), 0))
        return ScoreTable(self.scored, values, {k: v for k, v in predictions.items() if k not in self.scored})

    def predict(self, log: LoggedDataset) -> dict[str, AnyArray]:
        """Predictions of every task by name: `[n]`, or `[n, n_classes]` for multiclass."""
        for side in SIDES:
            log = LoggedDataset(self._with_fixed(side, log.columns, len(log)))
        return self.run(pack_inputs(self.encoder, log))[1]

    def run(self, rows: Batch) -> tuple[Outputs, dict[str, AnyArray]]:
        """Outputs and predictions of encoded rows, computed in chunks."""
        was_training = self.model.training
        self.model.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, max(len(rows), 1), CHUNK):
                found.append(self.model.run(rows.slice(start, start + CHUNK)))
            other = {name: torch.cat([o.other[name] for o in found]) for name in found[0].other}
            outputs = Outputs(torch.cat([o.logits for o in found]), other)
            values, more = predict(self.tasks, outputs)
            table = self._values(values).astype(float)
        self.model.train(was_training)
        return outputs, {name: table[:, at] for at, name in enumerate(self.scored)} | self._other(more)

    def _with_fixed(self, side: Side, columns: Columns, n: int | None) -> Columns:
        """The columns with features such as the position at their fixed value."""
        fixed = [feature for feature in self.spec.side(side) if feature.fixed is not None]
        if not fixed:
            return columns
        rows = len(next(iter(columns.values()))) if n is None else n
        return {**columns, **{feature.column: np.full(rows, feature.fixed) for feature in fixed}}

    def _values(self, values: Tensor) -> Floats32:
        table: Floats32 = values.numpy()
        if self._all_binary:
            return table
        table = table.copy()
        for at, name in enumerate(self.scored):
            if name in self.scales:
                table[:, at] = self.scales[name].invert(table[:, at].astype(float))
        return table

    def _other(self, other: Mapping[str, Tensor]) -> dict[str, AnyArray]:
        found = {}
        for name, values in other.items():
            array = values.numpy().astype(float)
            if self.tasks[name].kind != "multiclass":
                array = array[:, 0]
            found[name] = self.scales[name].invert(array) if name in self.scales else array
        return found


def _rows(rows: SideRows) -> Rows:
    lists = {name: torch.from_numpy(ids) for name, ids in rows.lists.items()}
    return Rows(torch.from_numpy(rows.ids), torch.from_numpy(rows.dense), lists)
