"""Carry a trained ranker's weights into one with more ids, scenarios or tasks: the learned stays, the new starts fresh."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from core.errors import ConfigError
from core.logs import LoggedDataset
from ranker import models
from ranker.encoder import Encoder
from ranker.features import FeatureSpec
from ranker.models.base import MultiTaskModel
from ranker.train import Trained


def grown(trained: Trained, log: LoggedDataset, spec: FeatureSpec | None = None, *, seed: int = 0) -> Trained:
    """A ranker to go on from (`train(start=...)`) that also knows the new ids and scenarios of `log` and the new tasks of `spec`.

    Args:
        spec: The old features and tasks in their order, new tasks after them; the old spec by default.
        seed: Decides the weights of what is new.

    Raises:
        ConfigError: The spec changes more than that, or the architecture cannot take a new task or scenario.
    """
    old = trained.encoder.spec
    spec = spec or old
    if spec.features != old.features:
        raise ConfigError(
            "the spec's features differ from the trained ranker's; only ids and tasks can be new, train from the start"
        )
    if spec.tasks.names[: len(old.tasks)] != old.tasks.names:
        raise ConfigError(f"tasks {', '.join(spec.tasks.names)} must begin with the trained ones, {', '.join(old.tasks.names)}")
    encoder = Encoder(spec, trained.encoder.vocabularies, trained.encoder.numbers).grow(log)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.make(trained.model_name, encoder.layout, spec.tasks, trained.options)
    state = model.state_dict()
    for name, value in trained.model.state_dict().items():
        if name.startswith("inputs."):
            continue
        if value.shape != state[name].shape and not model.grows:
            raise ConfigError(f"{trained.model_name} cannot take a new task or scenario and keep its weights; aesm2 and mmoe can")
        state[name][tuple(slice(size) for size in value.shape)] = value
    model.load_state_dict(state)
    carry_tables(trained.model, trained.encoder, model, encoder)
    return replace(trained, encoder=encoder, model=model)


def carry_tables(old: MultiTaskModel, old_encoder: Encoder, new: MultiTaskModel, new_encoder: Encoder) -> None:
    """Copy every feature's rows; rows of new ids start as the mean of the feature's unknown rows, which stood in for them."""
    for feature in old_encoder.spec.features:
        if feature.name not in old_encoder.layout.offsets or feature.shares:
            continue
        width = old.inputs.width(feature.name)
        if width != new.inputs.width(feature.name):
            raise ConfigError(
                f"feature {feature.name!r}: its embedding has {width} numbers, the new one {new.inputs.width(feature.name)}"
            )
        a, b = old_encoder.layout, new_encoder.layout
        n, total = a.rows[feature.name], b.rows[feature.name]
        start = b.offsets[feature.name]
        source = old.inputs.weight(width).detach()[a.offsets[feature.name] :][:n]
        with torch.no_grad():
            target = new.inputs.weight(width)
            target[start : start + n] = source
            if total > n:
                target[start + n : start + total] = source[1 : 1 + feature.oov].mean(0)


def carry_same(old: MultiTaskModel, new: MultiTaskModel) -> list[str]:
    """Copy dense weights of the same name and shape, towers aside; returns the names."""
    state, carried = new.state_dict(), []
    source: dict[str, Tensor] = old.state_dict()
    for name, value in source.items():
        own = {"inputs", "towers", "user_towers"} & set(name.split("."))
        if not own and name in state and state[name].shape == value.shape:
            state[name] = value
            carried.append(name)
    new.load_state_dict(state)
    return carried
