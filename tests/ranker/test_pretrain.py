"""Skip-gram puts items that occur together near one another, and the w2v variant keeps them there."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.errors import DataError
from core.tasks import TaskSet, TaskSpec
from ranker.checks import example_log, example_spec
from ranker.encoder import Encoder
from ranker.models.base import MultiTaskModel
from ranker.pretrain import skip_gram, word2vec
from ranker.train import TrainConfig, train


def test_items_of_one_community_are_near() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 11, (600, 8)) + 10 * rng.integers(0, 2, 600)[:, None]  # 1..10 or 11..20 in a sequence
    vectors = F.normalize(skip_gram(rows, 21, 8, epochs=10, batch_size=512, learning_rate=0.05), dim=1)
    cosine = vectors @ vectors.T
    within = torch.cat([cosine[1:11, 1:11].flatten(), cosine[11:, 11:].flatten()]).mean()
    across = cosine[1:11, 11:].mean()
    assert within > across + 0.5
    assert not vectors[0].any()


def test_the_w2v_variant_trains_around_fixed_items() -> None:
    log = example_log(200, 0)
    spec = example_spec(TaskSet([TaskSpec("click")]))
    encoder = Encoder.fit(spec, log)
    prepare = word2vec(encoder, log, epochs=1)
    start, n = encoder.layout.offsets["item_id"], encoder.layout.rows["item_id"]
    given: list[torch.Tensor] = []

    def remember(model: MultiTaskModel) -> None:
        prepare(model)
        given.append(model.inputs.weight(8)[start : start + n].detach().clone())

    made = train(
        spec,
        "dupn",
        train=log.take(np.arange(150)),
        valid=log.take(np.arange(150, 200)),
        config=TrainConfig(epochs=1, batch_size=50),
        options={"variant": "w2v"},
        encoder=encoder,
        prepare=remember,
        progress=False,
    )
    assert given[0].any()
    assert torch.equal(made.model.inputs.weight(8)[start : start + n], given[0])


def test_sequences_without_neighbours_are_refused() -> None:
    with pytest.raises(DataError, match="no sequence holds two"):
        skip_gram(np.array([[1, 0], [2, 0]]), 3, 4)
