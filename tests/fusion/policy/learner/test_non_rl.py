"""Searches by playing find what is better in a world whose best constant is known, with the sessions they are given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from core.arrays import AnyArray, Floats
from core.errors import ConfigError
from fusion.policy.learner.non_rl import SEARCHES, GaussianProcess, Start
from fusion.policy.networks import PolicyNet

BEST = np.array([0.6, -0.4, 0.2])


class World:
    """Returns fall with the distance to BEST; where the state's first column is -1, the first parameter's best is the other."""

    def __init__(self) -> None:
        self.rng, self.played = np.random.default_rng(0), 0

    def play(self, nets: Sequence[PolicyNet], n: int) -> Floats:
        self.played += n * len(nets)
        found = []
        for net in nets:
            obs = np.column_stack([self.rng.choice([-1.0, 1.0], n), self.rng.normal(size=n)]).astype(np.float32)
            with torch.no_grad():
                found.append(self.value(obs, net.act(torch.from_numpy(obs)).numpy()) + 0.5 * self.rng.normal(size=n))
        return np.array(found)

    def value(self, obs: AnyArray, action: AnyArray) -> Floats:
        best = np.tile(BEST, (len(obs), 1))
        best[:, 0] *= obs[:, 0]
        value: Floats = 5 - ((action - best) ** 2).sum(1)
        return value


def truth(net: PolicyNet) -> float:
    obs = np.column_stack([np.resize([-1.0, 1.0], 200), np.random.default_rng(1).normal(size=200)]).astype(np.float32)
    with torch.no_grad():
        return float(World().value(obs, net.act(torch.from_numpy(obs)).numpy()).mean())


@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "hand_set"])
def test_searches_beat_where_they_began_within_their_sessions(name: str) -> None:
    world, start = World(), Start(np.array([0.9, 0.9, -0.9]), 2, grid=(1, 2), gate=(0,))
    net = SEARCHES[name](world.play, start, 6000, 0)
    assert world.played <= 6000
    assert truth(net) > truth(start.net(start.hand_set)) + 1.0


def test_es_alone_learns_to_use_the_state() -> None:
    start = Start(np.zeros(3), 2, gate=(0,))
    found = {name: truth(SEARCHES[name](World().play, start, 20_000, 0)) for name in ("es", "cem")}
    assert found["es"] > found["cem"] + 0.15


def test_hand_set_is_left_as_it_is() -> None:
    world = World()
    net = SEARCHES["hand_set"](world.play, Start(BEST, 2), 1000, 0)
    assert world.played == 0
    assert net.act(torch.zeros(1, 2)).numpy()[0] == pytest.approx(BEST, abs=1e-6)


def test_the_process_returns_to_its_data_and_doubts_elsewhere() -> None:
    x, y = np.array([[-1.0], [0.0], [1.0]]), np.array([1.0, 3.0, 2.0])
    mean, spread = GaussianProcess(x, y, np.full(3, 1e-9), 1.0).predict(np.array([[-1.0], [0.0], [1.0], [30.0]]))
    assert mean == pytest.approx([1.0, 3.0, 2.0, y.mean()], abs=1e-4)
    assert spread[:3].max() < 1e-3 < spread[3]


def test_a_grid_over_four_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="it takes 1 to 3"):
        Start(np.zeros(5), 2, grid=(0, 1, 2, 3))
