"""Item embeddings from sequences alone: skip-gram with negative sampling (Mikolov et al. 2013), for DUPN's `w2v` variant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.arrays import AnyArray, Ints
from core.errors import DataError
from core.logs import LoggedDataset
from ranker.batches import pack_inputs
from ranker.encoder import Encoder
from ranker.models.base import MultiTaskModel
from ranker.sequence import unpooled


def word2vec(
    encoder: Encoder, log: LoggedDataset, *, window: int = 3, negatives: int = 5, epochs: int = 2, seed: int = 0
) -> Callable[[MultiTaskModel], None]:
    """What `train(prepare=...)` takes: writes skip-gram embeddings into the rows of every sequence that shares an item feature.

    Args:
        log: Rows whose sequences are read; use the training rows.

    Raises:
        DataError: No sequence holds two known items.
    """
    lists = pack_inputs(encoder, log).lists
    found: dict[str, Tensor] = {}
    for name in unpooled(encoder.layout)[0]:
        owner = str(encoder.spec[name].shares)
        ids = lists[name].numpy().astype(np.int64)
        rows = np.where(ids > 0, ids - encoder.layout.offsets[owner], 0)
        width = encoder.spec[owner].dim
        n = encoder.layout.rows[owner]
        found[owner] = skip_gram(rows, n, width, window=window, negatives=negatives, epochs=epochs, seed=seed)

    def prepare(model: MultiTaskModel) -> None:
        for owner, vectors in found.items():
            start, width = encoder.layout.offsets[owner], model.inputs.width(owner)
            with torch.no_grad():  # where several networks' embeddings stand side by side, all start alike
                model.inputs.weight(width)[start : start + len(vectors)] = vectors.repeat(1, width // vectors.shape[1])

    return prepare


def skip_gram(
    rows: Ints,
    n_rows: int,
    width: int,
    *,
    window: int = 3,
    negatives: int = 5,
    epochs: int = 2,
    batch_size: int = 8192,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Tensor:
    """Vectors `(n_rows, width)` from sequences `(N, L)` of row numbers, 0 as padding; negatives are drawn by count^.75."""
    centre, context = pairs(rows, window)
    if not len(centre):
        raise DataError("no sequence holds two known items; skip-gram needs neighbours, choose another variant than w2v")
    generator = torch.Generator().manual_seed(seed)
    counts = np.bincount(rows.ravel(), minlength=n_rows).astype(float)
    counts[0] = 0
    chance = torch.from_numpy(counts**0.75)
    vectors = nn.Parameter(torch.randn(n_rows, width, generator=generator) / width**0.5 * 0.5)
    others = nn.Parameter(torch.zeros(n_rows, width))
    optimiser = torch.optim.Adam([vectors, others], learning_rate)
    a, b = torch.from_numpy(centre), torch.from_numpy(context)
    for _ in range(epochs):
        order = torch.randperm(len(a), generator=generator)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            wrong = torch.multinomial(chance, len(part) * negatives, replacement=True, generator=generator)
            v = vectors[a[part]]  # (B, d)
            near = (v * others[b[part]]).sum(-1)  # (B,)
            far = torch.bmm(others[wrong].view(len(part), negatives, width), v.unsqueeze(-1)).squeeze(-1)  # (B, n)
            loss = -(F.logsigmoid(near).mean() + F.logsigmoid(-far).sum(-1).mean())
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    result = vectors.detach().clone()
    result[0] = 0
    return result


def pairs(rows: AnyArray, window: int) -> tuple[Ints, Ints]:
    """Every (item, neighbour at most `window` steps away) of sequences `(N, L)`, padding left out.

    >>> centre, context = pairs(np.array([[3, 4, 5, 0]]), window=1)
    >>> sorted(zip(centre.tolist(), context.tolist()))
    [(3, 4), (4, 3), (4, 5), (5, 4)]
    """
    found: list[tuple[Ints, Ints]] = []
    for step in range(1, min(window, rows.shape[1] - 1) + 1):
        first, second = rows[:, :-step].ravel(), rows[:, step:].ravel()
        real = (first > 0) & (second > 0)
        found += [(first[real], second[real]), (second[real], first[real])]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])
