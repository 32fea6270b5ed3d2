"""One state at a time by numpy is what the network says, whatever its kind; a network of another kind is asked itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.policy.networks import NETS, PolicyNet, build
from fusion.policy.quick import answerer

RANGES = [[0.0, -2.0, -1.0], [1.0, 1.0, 0.0]]  # lows, highs
CONFIGS: dict[str, dict[str, Any]] = {
    "constant": {},
    "actor": {"hidden": [7, 5], "std": True},
    "bcq": {"hidden": [6]},
    "direction": {"gate": [0, 2, 3], "ranges": RANGES},
}


def random_net(kind: str, seed: int) -> PolicyNet:
    torch.manual_seed(seed)
    net = build({"kind": kind, "n_obs": 4, "n_params": 3, **CONFIGS[kind]})
    for name, value in net.state_dict().items():
        if value.dtype.is_floating_point and name not in ("low", "high"):
            value.add_(0.6 * torch.rand(value.shape) - (0.0 if name.endswith("scale") else 0.3))
    return net.eval()


def test_every_kind_is_covered() -> None:
    assert set(CONFIGS) == set(NETS)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "bcq"])
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 0.1, 1.0, 50.0]))
def test_numpy_answers_as_the_network(kind: str, seed: int, scale: float) -> None:
    net = random_net(kind, seed)
    answer = answerer(net)
    for state in (scale * np.random.default_rng(seed).normal(size=(5, 4))).astype(np.float32):
        with torch.inference_mode():
            wanted = net.act(torch.from_numpy(state[None])).numpy()[0]
        found = answer(state, "r1")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_sampling_network_answers_a_request_once_and_for_all() -> None:
    answer = answerer(random_net("bcq", 1))
    state = np.ones(4, np.float32)
    assert answer(state, "r1").tolist() == answer(state, "r1").tolist()
    assert answer(state, "r1").tolist() != answer(state, "r2").tolist()


def test_what_is_not_a_number_stays_so() -> None:
    for kind in ("actor", "direction"):
        assert np.isnan(answerer(random_net(kind, 2))(np.full(4, np.nan, np.float32), "r1")).any()
